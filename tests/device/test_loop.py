import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import Bundle
from edgekit.device.copies import Copies
from edgekit.device.frame import Frame, Kind, nothing
from edgekit.device.loop import Loop
from edgekit.device.picture import rgb
from edgekit.device.session import open_session
from edgekit.device.uri import open_camera
from edgekit.errors import ImageError, SourceUnavailable
from edgekit.spec import Fill, Session


@pytest.fixture
def session(bundle: Bundle) -> Iterator[Session]:
    with closing(open_session(bundle)) as opened:
        yield opened


class Script:
    """A camera that does what it is told, frame by frame; remembers what was released."""

    def __init__(self, kind: Kind, *steps: Callable[[], None]) -> None:
        self.kind: Kind = kind
        self.deadline_s = 10.0
        self.copies = Copies()
        self.released: list[int] = []
        self._steps = iter(enumerate(steps))

    def read(self) -> Frame | None:
        number, step = next(self._steps, (-1, nothing))
        if number < 0:
            return None
        step()
        pixels = np.full((20, 30, 3), (10, 250, 10), np.uint8)
        stamp = time.monotonic_ns()
        return Frame(rgb(pixels), number, stamp, 0.0, lambda: self.released.append(number))

    def close(self) -> None:
        pass


class Slow:
    """A session that takes a while."""

    def __init__(self, inner: Session, seconds: float) -> None:
        self.inputs, self.outputs, self.notes = inner.inputs, inner.outputs, inner.notes
        self._inner, self._seconds = inner, seconds

    def run(self, fill: Fill) -> Mapping[str, np.ndarray]:
        time.sleep(self._seconds)
        return self._inner.run(fill)

    def close(self) -> None:
        self._inner.close()


def unplugged() -> None:
    raise SourceUnavailable("the camera was unplugged")


def test_every_frame_of_a_clip_is_answered_in_order(
    bundle: Bundle, session: Session, clip: Path
) -> None:
    with closing(open_camera(str(clip))) as camera, Loop(bundle, session, camera) as loop:
        answers = [(r.frame.sequence, r.best.label) for r in loop]
    assert answers == [(n, ("red", "green", "blue")[n // 10]) for n in range(30)]
    summary = loop.summary()
    assert (summary.frames, summary.dropped) == (30, 0)


def test_of_a_live_camera_the_latest_frame_wins_and_drops_add_up(
    bundle: Bundle, session: Session
) -> None:
    ticks = [lambda: time.sleep(0.002)] * 100
    camera = Script("live", *ticks)
    with Loop(bundle, Slow(session, 0.01), camera) as loop:
        used = [result.frame.sequence for result in loop]
    summary = loop.summary()
    assert used == sorted(set(used))
    assert used[-1] == 99
    assert summary.frames == len(used) < 60
    assert summary.dropped == 100 - len(used)
    assert sorted(camera.released) == list(range(100))
    # A frame waits for at most one inference: the age does not grow with the number of frames.
    assert summary.age_ms.p95 < 10 * 10


@pytest.mark.parametrize(
    ("kind", "alone", "here"),
    [("clip", True, True), ("stills", True, True), ("live", True, False), ("clip", False, False)],
)
def test_on_one_core_a_file_is_read_between_the_inferences(
    bundle: Bundle, session: Session, monkeypatch: pytest.MonkeyPatch,
    kind: Kind, alone: bool, here: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr("edgekit.device.capture.supply.alone", lambda: alone)
    threads: list[threading.Thread] = []
    camera = Script(kind, lambda: threads.append(threading.current_thread()))
    with Loop(bundle, session, camera) as loop:
        assert [result.frame.sequence for result in loop] == [0]
    assert [thread is threading.current_thread() for thread in threads] == [here]
    assert camera.released == [0]
    assert loop.summary().stages_ms["capture"].mean > 0


def test_frames_are_lent_only_until_the_next(bundle: Bundle, session: Session) -> None:
    camera = Script("clip", nothing, nothing)
    with Loop(bundle, session, camera) as loop:
        results = iter(loop)
        first = next(results)
        assert first.frame.picture.planes[0][0, 0, 1] == 250
        second = next(results)
        assert camera.released == [0]
        assert second.frame.sequence == 1
    assert first.best.label == "green"
    assert first.age_ms > 0


def test_bytes_per_frame_are_all_that_the_main_path_writes(
    bundle: Bundle, session: Session
) -> None:
    """From lent RGB memory the model's input is written once, and nothing else is."""
    with Loop(bundle, session, Script("clip", *[nothing] * 5)) as loop:
        assert len(list(loop)) == 5
    summary = loop.summary()
    assert summary.reasons == {"input: resize": 8 * 12 * 3, "output: logits": 3 * 4}
    assert summary.bytes_per_frame["frame"] == 0


def test_what_a_clip_copies(bundle: Bundle, session: Session, clip: Path) -> None:
    with closing(open_camera(str(clip))) as camera, Loop(bundle, session, camera) as loop:
        for _ in loop:
            pass
    reasons = loop.summary().reasons
    assert reasons["output: logits"] == 3 * 4
    assert not [why for why in reasons if why.startswith("frame")]  # the decoder's own planes


def test_a_limit(bundle: Bundle, session: Session) -> None:
    camera = Script("clip", *[nothing] * 100)
    with Loop(bundle, session, camera, limit=3) as loop:
        assert [r.frame.sequence for r in loop] == [0, 1, 2]
    assert loop.summary().dropped == 0
    assert sorted(camera.released)[:3] == [0, 1, 2]


def test_so_many_answers(bundle: Bundle, session: Session) -> None:
    with Loop(bundle, session, Script("clip", nothing), top=2) as loop:
        assert [len(r.predictions) for r in loop] == [2]


def test_an_error_of_the_camera_reaches_the_main_thread(bundle: Bundle, session: Session) -> None:
    seen: list[int] = []
    with (
        pytest.raises(SourceUnavailable, match="unplugged"),
        Loop(bundle, session, Script("clip", nothing, unplugged)) as loop,
    ):
        seen.extend(r.frame.sequence for r in loop)
    assert loop.summary().frames == 1


def test_a_camera_that_stalls(bundle: Bundle, session: Session) -> None:
    wake = threading.Event()
    camera = Script("live", nothing, lambda: (wake.wait(5), None)[1])
    camera.deadline_s = 0.1
    with Loop(bundle, session, camera) as loop:
        with pytest.raises(SourceUnavailable, match=r"no frame for 0\.1 s"):
            list(loop)
        wake.set()


def test_an_error_in_the_body_ends_the_thread(bundle: Bundle, session: Session) -> None:
    def body() -> None:
        with loop:
            for _ in loop:
                raise LookupError

    loop = Loop(bundle, session, Script("clip", *[nothing] * 100))
    with pytest.raises(LookupError):
        body()
    assert loop.summary().frames == 1


def test_a_broken_picture_in_a_folder(
    bundle: Bundle, session: Session, photo: Callable[[str, str], Path]
) -> None:
    folder = photo("a.png", "red").parent
    (folder / "b.png").write_bytes(b"broken")
    with closing(open_camera(str(folder))) as camera, Loop(bundle, session, camera) as loop:
        results = iter(loop)
        assert next(results).best.label == "red"
        with pytest.raises(ImageError, match=r"b\.png"):
            next(results)


def test_memory_does_not_grow_with_frames(bundle: Bundle, session: Session) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not tell a process's memory")

    def resident() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    camera = open_camera("synthetic://640x480@30?pace=fast&frames=6000")
    with closing(camera), Loop(bundle, session, camera) as loop:
        middle = 0
        for result in loop:
            if result.frame.sequence == 2000:
                middle = resident()
        assert resident() - middle < 4_000_000
