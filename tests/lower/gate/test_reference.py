"""The image contract in plain numpy: worked by hand, and against OpenCV's way of it."""

from typing import Literal

import numpy as np
import pytest

from edgekit.lower.calibrate import to_input
from edgekit.lower.gate import edges, reference
from edgekit.spec import ImageSpec

STRETCH = ImageSpec(2, 2, fit="stretch")


def row(*values: int) -> np.ndarray:
    """An image of one row, the same in all channels."""
    return np.array(values, np.uint8)[None, :, None].repeat(3, axis=2)


def test_samples_lie_at_half_pixel_centres_and_the_edge_is_repeated() -> None:
    found = reference.pixels(row(0, 100), ImageSpec(1, 4, fit="stretch"))
    np.testing.assert_allclose(found[0, :, 0], [0, 25, 75, 100])


def test_area_is_the_mean_of_what_is_covered() -> None:
    spec = ImageSpec(1, 2, fit="stretch", interpolation="area")
    np.testing.assert_allclose(reference.pixels(row(0, 30, 90), spec)[0, :, 1], [10, 70])


def test_a_letterbox_has_margins() -> None:
    spec = ImageSpec(4, 4, fit="letterbox", fill=7)
    found = reference.pixels(row(50, 50, 50, 50).repeat(2, axis=0), spec)
    np.testing.assert_allclose(found[:, 0, 2], [7, 50, 50, 7])


def test_a_crop_is_centred() -> None:
    spec = ImageSpec(1, 2, crop_fraction=1.0)
    np.testing.assert_allclose(reference.pixels(row(1, 2, 3, 4), spec)[0, :, 0], [2, 3])


def test_planes() -> None:
    spec = ImageSpec(1, 2, mean=(0.5, 0.0, 0.2), std=(0.5, 1.0, 0.1))
    found = reference.planes(np.array([[[[255, 0, 51], [0, 255, 51]]]], np.uint8), spec)
    assert (found.shape, str(found.dtype)) == ((1, 3, 1, 2), "float32")
    np.testing.assert_allclose(found[0, :, 0], [[1, -1], [0, 1], [0, 0]], atol=1e-6)


@pytest.mark.parametrize("fit", ["crop", "stretch", "letterbox"])
@pytest.mark.parametrize("interpolation", ["bilinear", "area"])
@pytest.mark.parametrize("size", [(33, 64), (224, 96)])
def test_the_device_prepares_the_same_pixels(
    fit: Literal["crop", "stretch", "letterbox"],
    interpolation: Literal["bilinear", "area"],
    size: tuple[int, int],
) -> None:
    spec = ImageSpec(*size, fit=fit, interpolation=interpolation)
    for name, frame in edges.frames().items():
        apart = np.abs(to_input(frame, spec)[0] - reference.pixels(frame, spec))
        assert apart.max() < 1, name
