"""The same answers when the next frame is prepared while one is inferred."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import Bundle
from edgekit.device.copies import Copies
from edgekit.device.frame import Frame, Kind, nothing
from edgekit.device.loop import BROKEN_IN_A_ROW, Loop
from edgekit.device.picture import Picture, rgb
from edgekit.device.session import open_session
from edgekit.device.uri import open_camera
from edgekit.errors import ImageError
from edgekit.spec import Session

WHOLE = rgb(np.full((20, 30, 3), (10, 250, 10), np.uint8))
BROKEN = Picture("MJPEG", 30, 20, (np.zeros(99, np.uint8),))


@pytest.fixture
def session(bundle: Bundle) -> Iterator[Session]:
    with closing(open_session(bundle)) as opened:
        yield opened


class Pictures:
    """A camera that gives these pictures."""

    deadline_s = 5.0

    def __init__(self, kind: Kind, *pictures: Picture) -> None:
        self.kind, self.copies = kind, Copies()
        self.released: list[int] = []
        self._pictures = [*enumerate(pictures)]
        self.taken = threading.Event()

    def read(self) -> Frame | None:
        if not self._pictures:
            return None
        if self.kind == "live" and self._pictures[0][0]:
            self.taken.wait(5)  # so that none is replaced by a newer one
            self.taken.clear()
        number, picture = self._pictures.pop(0)
        return Frame(picture, number, 1, 0.0, lambda: self._release(number))

    def _release(self, number: int) -> None:
        self.released.append(number)
        self.taken.set()

    def close(self) -> None:
        nothing()


def test_the_same_answers(bundle: Bundle, session: Session, clip: Path) -> None:
    answers = []
    for overlap in (False, True):
        with (
            closing(open_camera(str(clip))) as camera,
            Loop(bundle, session, camera, overlap=overlap) as loop,
        ):
            answers.append([(r.frame.sequence, r.predictions) for r in loop])
    assert answers[0] == answers[1]
    assert len(answers[0]) == 30
    names = {thread.name for thread in threading.enumerate()}
    assert not names & {"prepare", "capture"}


def test_one_copy_more_of_the_input_and_none_of_a_frame(bundle: Bundle, session: Session) -> None:
    camera = Pictures("clip", *[WHOLE] * 8)
    with Loop(bundle, session, camera, overlap=True) as loop:
        assert len([*loop]) == 8
    reasons = loop.summary().reasons
    assert reasons == {
        "input: resize": 8 * 12 * 3, "input: prepared ahead": 8 * 12 * 3, "output: logits": 12,
    }  # fmt: skip
    assert sorted(camera.released) == [*range(8)]


def test_ending_early_releases_what_was_prepared(bundle: Bundle, session: Session) -> None:
    camera = Pictures("clip", *[WHOLE] * 50)
    with Loop(bundle, session, camera, limit=2, overlap=True) as loop:
        assert len([*loop]) == 2
    assert sorted(camera.released) == [*range(len(camera.released))]
    assert len(camera.released) == 50 - len(camera._pictures)


@pytest.mark.parametrize("overlap", [False, True])
def test_a_broken_frame_of_a_camera_is_passed_over(
    bundle: Bundle, session: Session, overlap: bool
) -> None:
    camera = Pictures("live", WHOLE, BROKEN, BROKEN, WHOLE, WHOLE)
    with Loop(bundle, session, camera, overlap=overlap) as loop:
        used = [r.frame.sequence for r in loop]
    summary = loop.summary()
    assert used == [0, 3, 4]
    assert (summary.frames, summary.dropped, summary.broken) == (3, 2, 2)
    assert camera.released == [*range(5)]


@pytest.mark.parametrize("overlap", [False, True])
def test_but_not_too_many(bundle: Bundle, session: Session, overlap: bool) -> None:
    camera = Pictures("live", WHOLE, *[BROKEN] * BROKEN_IN_A_ROW, WHOLE)
    used = []
    with (
        Loop(bundle, session, camera, overlap=overlap) as loop,
        pytest.raises(ImageError),
    ):
        used += [r.frame.sequence for r in loop]
    assert loop.summary().frames == 1


@pytest.mark.parametrize("overlap", [False, True])
def test_a_broken_frame_of_a_file_ends_it(bundle: Bundle, session: Session, overlap: bool) -> None:
    camera = Pictures("clip", WHOLE, BROKEN, WHOLE)
    with (
        Loop(bundle, session, camera, overlap=overlap) as loop,
        pytest.raises(ImageError),
    ):
        for _ in loop:
            pass
    assert loop.summary().frames == 1
