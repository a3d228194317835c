import time
from collections.abc import Callable

import pytest

from edgekit.device.outputs._history import History, Second


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the clock, in seconds."""

    def move(seconds: float) -> None:
        monkeypatch.setattr(time, "monotonic_ns", lambda: round(seconds * 1e9))

    return move


def test_nothing_is_known_before_the_first_answer(at: Callable[[float], None]) -> None:
    at(1000)
    assert History().recent() == [None] * 60


def test_whole_seconds_are_summed_up(at: Callable[[float], None]) -> None:
    history = History()
    at(99.9)
    history.add(1000)  # of a second that the run was not there for as a whole
    for number in range(1, 21):
        at(100 + number / 40)
        history.add(number)
    at(101.2)
    history.add(7)
    at(102.9)
    recent = history.recent()
    assert recent[:58] == [None] * 58
    assert recent[58:] == [Second(20, 10.5, 19.05), Second(1, 7, 7)]
    at(104.0)
    assert history.recent()[-2:] == [Second(0, None, None)] * 2
    assert history.recent()[56:58] == recent[58:]


def test_a_pause_of_more_than_a_minute_leaves_nothing_of_before(
    at: Callable[[float], None],
) -> None:
    history = History()
    for second in range(100, 164):
        at(second)
        history.add(5)
    at(164 + 640)  # each slot is another second's now
    history.add(3)
    assert history.recent() == [Second(0, None, None)] * 60
    at(164 + 641)
    assert history.recent()[-1] == Second(1, 3, 3)


def test_of_many_answers_the_last_ages_are_kept(at: Callable[[float], None]) -> None:
    history = History()
    at(9)
    history.add(0)
    at(10)
    for _ in range(1000):
        history.add(9)
    for _ in range(256):
        history.add(2)
    at(11)
    assert history.recent()[-1] == Second(1256, 2, 2)
