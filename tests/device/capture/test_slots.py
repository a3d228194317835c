import threading

import numpy as np
import pytest

from edgekit.device.capture.slots import AHEAD, ALIVE, Every, Latest, Slots
from edgekit.device.frame import Frame
from edgekit.device.picture import rgb
from edgekit.errors import SourceUnavailable

PIXELS = np.zeros((1, 1, 3), np.uint8)


class Source:
    """Makes frames and remembers which were released."""

    def __init__(self) -> None:
        self.released: list[int] = []

    def frame(self, sequence: int) -> Frame:
        return Frame(rgb(PIXELS), sequence, 0, 0.0, lambda: self.released.append(sequence))


def test_the_latest_frame_wins_and_the_others_are_counted() -> None:
    source, handover = Source(), Latest()
    for sequence in range(4):
        handover.put(source.frame(sequence))
    frame = handover.take(1)
    assert frame is not None
    assert frame.sequence == 3
    assert source.released == [0, 1, 2]
    assert handover.first == 0


def test_every_frame_is_used_of_a_file() -> None:
    source, handover = Source(), Every()

    def produce() -> None:
        for sequence in range(50):
            handover.put(source.frame(sequence))
        handover.end()

    thread = threading.Thread(target=produce)
    thread.start()
    taken = []
    while (frame := handover.take(5)) is not None:
        taken.append(frame.sequence)
    thread.join()
    assert taken == list(range(50))


@pytest.mark.parametrize("kind", [Latest, Every])
def test_an_error_comes_after_the_frames_before_it(kind: type[Latest] | type[Every]) -> None:
    handover = kind()
    handover.put(Source().frame(0))
    handover.end(LookupError("unplugged"))
    assert handover.take(1) is not None
    for _ in range(2):
        with pytest.raises(LookupError, match="unplugged"):
            handover.take(1)


def test_a_source_that_gives_nothing() -> None:
    with pytest.raises(SourceUnavailable, match=r"no frame for 0\.01 s"):
        Latest().take(0.01)


def test_stop_frees_a_producer_that_waits_and_what_it_holds() -> None:
    source, handover = Source(), Every()
    for sequence in range(AHEAD):
        handover.put(source.frame(sequence))
    thread = threading.Thread(target=lambda: handover.put(source.frame(AHEAD)))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()  # what waits is bounded
    handover.stop()
    thread.join(5)
    assert not thread.is_alive()
    assert sorted(source.released) == list(range(AHEAD + 1))
    assert handover.take(1) is None


def test_a_live_camera_is_stopped() -> None:
    source, handover = Source(), Latest()
    handover.put(source.frame(0))
    handover.stop()
    handover.put(source.frame(1))
    assert source.released == [0, 1]
    assert handover.take(1) is None


def test_slots_are_lent_in_turn_and_never_made_anew() -> None:
    slots = Slots((2, 2, 3))
    lent = [slots.take() for _ in range(ALIVE)]
    first = lent[0][0]
    lent[0][1]()
    again, _ = slots.take()
    assert again is first
    with pytest.raises(AssertionError, match="not released"):
        slots.take()
