import numpy as np
import pytest

from edgekit.device.frame import Frame
from edgekit.device.picture import rgb
from edgekit.errors import SpecError


def lend(released: list[int]) -> Frame:
    pixels = np.zeros((2, 3, 3), np.uint8)
    return Frame(rgb(pixels), 7, 0, 0.0, lambda: released.append(1))


def test_a_block_releases_once() -> None:
    released: list[int] = []
    with lend(released) as frame:
        assert frame.picture.planes[0].shape == (2, 3, 3)
        assert not released
    assert released == [1]


def test_an_error_releases_too() -> None:
    released: list[int] = []
    with pytest.raises(LookupError), lend(released):
        raise LookupError
    assert released == [1]


def test_released_inside_the_block() -> None:
    released: list[int] = []
    with lend(released) as frame:
        frame.release()
    assert released == [1]


def test_twice_is_an_error() -> None:
    released: list[int] = []
    frame = lend(released)
    frame.release()
    with pytest.raises(SpecError, match="frame 7 was released twice"):
        frame.release()
    assert released == [1]


def test_use_after_release_is_an_error() -> None:
    frame = lend([])
    frame.release()
    with pytest.raises(SpecError, match="frame 7 was used after its release"):
        _ = frame.picture
