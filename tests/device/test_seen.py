import numpy as np

from edgekit.device.decode import Prediction
from edgekit.device.frame import Frame, nothing
from edgekit.device.picture import rgb
from edgekit.device.result import Result
from edgekit.device.seen import Second, Seen


def result(time_s: float, label: str, probability: float) -> Result:
    frame = Frame(rgb(np.zeros((1, 1, 3), np.uint8)), 0, 0, time_s, nothing)
    return Result(frame, (Prediction(0, label, probability),), 0.0, 0.0)


def test_a_second_is_told_when_the_next_begins() -> None:
    seen = Seen()
    assert seen.add(result(63.0, "cat", 0.5)) is None
    assert seen.add(result(63.4, "cat", 1.0)) is None
    assert seen.add(result(63.9, "dog", 0.9)) is None
    second = seen.add(result(65.0, "dog", 0.25))
    assert second == Second(63, "cat", 0.75, 2, 3)
    assert str(second) == "1:03 cat 75 % (2 of 3 frames)"
    assert seen.finish() == Second(65, "dog", 0.25, 1, 1)
    assert seen.finish() is None
