"""Bilinear, whichever way it comes, is what is defined; to the bit."""

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgekit.device.copies import Copies
from edgekit.device.pixels import reference, resizing
from edgekit.device.pixels.exact import Exact
from edgekit.device.pixels.placement import Box
from edgekit.device.pixels.resizing import Resizer, Way, bilinear

WAYS: list[Way] = ["scaled", "numpy"]
if resizing.way() == "plain":  # of this machine's OpenCV
    WAYS.append("plain")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("way", WAYS)
@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 150), st.integers(1, 150), st.integers(1, 70), st.integers(1, 70),
    st.integers(1, 4),
)  # fmt: skip
@example(64, 48, 32, 24, 1)
@example(64, 48, 32, 24, 2)
@example(63, 48, 21, 24, 2)  # a third
@example(75, 70, 70, 70, 3)  # hardly smaller
@example(20, 20, 40, 40, 1)
@example(2, 90, 1, 3, 4)
def test_every_way_is_the_definition(
    way: Way, height: int, width: int, tall: int, wide: int, channels: int
) -> None:
    plane = noise(height, width, channels)
    given_ = plane[..., 0] if channels == 1 else plane
    made = np.full((tall, wide, *given_.shape[2:]), 9, np.uint8)
    bilinear(given_.shape, tall, wide, way)(given_, made)
    expected = reference.resize(plane, tall, wide)
    np.testing.assert_array_equal(made.reshape(expected.shape), expected)


@pytest.mark.parametrize("way", WAYS)
def test_into_a_part_of_a_picture_and_from_one(way: Way) -> None:
    plane, into = noise(300, 400, 3)[20:250, 30:330], np.zeros((90, 90, 3), np.uint8)
    target = into[5:85, 10:80]
    bilinear(plane.shape, 80, 70, way)(plane, target)
    np.testing.assert_array_equal(target, reference.resize(plane, 80, 70))
    target[...] = 0
    assert not into.any()


def test_some_rows_only() -> None:
    plane, into = noise(40, 30), np.zeros((3, 20), np.uint8)
    Exact((40, 30), 25, 20, 7, 10)(plane, into)
    np.testing.assert_array_equal(into, reference.resize(plane[..., None], 25, 20)[7:10, :, 0])


def test_an_opencv_that_rounds_otherwise_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the wheels for Arm do, where a scale is not given."""
    real = cv2.resize

    def otherwise(*arguments: object, **options: object) -> np.ndarray:
        made: np.ndarray = real(*arguments, **options)  # type: ignore[call-overload]
        if "fx" not in options or never:
            made[0, 0] ^= 1
        return made

    monkeypatch.setattr(cv2, "resize", otherwise)
    never = False
    assert resizing.way.__wrapped__() == "scaled"
    never = True
    assert resizing.way.__wrapped__() == "numpy"


@pytest.mark.parametrize("shape", [(60, 80), (60, 80, 2), (60, 80, 4)])
def test_area_is_the_mean_of_the_box(shape: tuple[int, ...]) -> None:
    plane, box = noise(*shape), Box(5, 7, 63, 50)
    copies = Copies()
    made = Resizer(plane, box, 20, 30, "area", copies)(plane)
    part = box.of(plane).reshape(50, 63, -1)
    up, down = (reference.mean(part, 30, 20, way) for way in ("up", "down"))
    found = made.reshape(up.shape)
    assert ((found == up) | (found == down)).all()
    assert copies.by_reason == {}


def test_area_that_grows_is_bilinear() -> None:
    plane = noise(30, 30)
    made = Resizer(plane, Box(0, 0, 30, 30), 40, 20, "area", Copies())(plane)
    np.testing.assert_array_equal(made, reference.resize(plane[..., None], 20, 40)[..., 0])
