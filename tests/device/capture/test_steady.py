import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from edgekit.device.capture.steady import LIMIT, Steady
from edgekit.device.copies import Copies
from edgekit.device.frame import Frame, Kind, nothing
from edgekit.device.picture import rgb
from edgekit.errors import EdgekitError, SourceUnavailable

PICTURE = rgb(np.zeros((1, 1, 3), np.uint8))


class Lives:
    """Opens cameras that give so many frames each and then fail."""

    def __init__(self, *frames: int, refusals: int = 0) -> None:
        self.frames, self.refusals = [*frames], refusals
        self.opened: list[Mortal] = []

    def __call__(self) -> "Mortal":
        if self.opened and self.refusals:
            self.refusals -= 1
            raise SourceUnavailable("no camera there")
        self.opened.append(Mortal(self.frames.pop(0)))
        return self.opened[-1]


class Mortal:
    kind: Kind = "live"
    deadline_s = 1.0

    def __init__(self, frames: int) -> None:
        self.copies, self.closed = Copies(), 0
        self._left, self._next = frames, 5  # drivers need not begin at 0

    def read(self) -> Frame | None:
        if not self._left:
            raise SourceUnavailable("it was unplugged")
        self._left -= 1
        self._next += 2  # every second frame is lost
        self.copies.add("frame", "why", 10)
        return Frame(PICTURE, self._next, time.monotonic_ns(), 0.0, nothing)

    def close(self) -> None:
        self.closed += 1


def take(camera: Steady, count: int) -> list[int]:
    found = []
    for _ in range(count):
        frame = camera.read()
        assert frame is not None
        found.append(frame.sequence)
        frame.release()
    return found


def test_it_goes_on_where_it_stopped() -> None:
    lives, said = Lives(3, 2, 9), list[str]()
    camera = Steady(lives, say=said.append)
    assert take(camera, 7) == [7, 9, 11, 12, 14, 15, 17]
    assert camera.restarts == 2
    assert [one.closed for one in lives.opened] == [1, 1, 0]
    assert camera.copies.total("frame") == 70
    assert said == ["it was unplugged; starting it again"] * 2
    camera.close()
    assert lives.opened[-1].closed == 1


def test_time_goes_on_too() -> None:
    camera = Steady(Lives(1, 9), say=lambda line: None)
    first = camera.read()
    time.sleep(0.05)
    second = camera.read()
    assert first is not None
    assert second is not None
    assert second.time_s == (second.captured_ns - first.captured_ns) / 1e9 >= 0.05


def test_a_camera_that_is_gone_is_waited_for() -> None:
    lives = Lives(1, 1, refusals=3)
    camera = Steady(lives, say=lambda line: None)
    assert take(camera, 2) == [7, 8]
    assert (camera.restarts, lives.refusals) == (1, 0)


def test_but_not_for_ever() -> None:
    lives = Lives(1, refusals=1000)
    camera = Steady(lives, say=lambda line: None, patience_s=0.3)
    take(camera, 1)
    with pytest.raises(SourceUnavailable, match=r"no camera there \(waited 0\.3 s for it"):
        camera.read()


def test_five_restarts_a_minute_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.device.capture.steady._BACKOFF_S", (0.0,) * LIMIT)
    lives = Lives(*[1] * 20)
    camera = Steady(lives, say=lambda line: None)
    take(camera, 1 + LIMIT)
    with pytest.raises(SourceUnavailable, match="5 times within a minute") as caught:
        camera.read()
    assert caught.value.exit_code == 69
    assert len(lives.opened) == 1 + LIMIT


def test_after_a_minute_it_counts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.device.capture.steady._BACKOFF_S", (0.0,) * LIMIT)
    monkeypatch.setattr("edgekit.device.capture.steady.MINUTE_S", 0.0)
    camera = Steady(Lives(*[1] * 20), say=lambda line: None)
    take(camera, 20)
    assert camera.restarts == 19


def test_the_first_opening_fails_at_once() -> None:
    def refuse() -> Mortal:
        raise EdgekitError("no such camera")

    with pytest.raises(EdgekitError, match="no such camera"):
        Steady(refuse)


@pytest.mark.parametrize("act", [Steady.stop, Steady.close])
def test_waiting_is_ended_from_another_thread(act: Callable[[Steady], None]) -> None:
    camera = Steady(Lives(1, refusals=10**9), say=lambda line: None)
    take(camera, 1)
    timer = threading.Timer(0.1, act, [camera])
    timer.start()
    with pytest.raises(SourceUnavailable, match="it was unplugged"):
        camera.read()
    timer.join()
