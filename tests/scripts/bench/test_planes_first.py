"""What a camera would give of an image, and what the two ways make of it."""

import numpy as np
import pytest

from edgekit.device.picture import PixelFormat
from edgekit.device.pixels.planes import check
from scripts.bench.planes_first import CAMERA, as_camera, converted, rows


def smooth() -> np.ndarray:
    """(48, 64, 3) uint8 RGB without edges, so that half the colour is enough."""
    y, x = np.mgrid[:48, :64]
    return np.stack([2 * x + 60, 3 * y + 40, 200 - x - y], axis=2).astype(np.uint8)


@pytest.mark.parametrize("of", CAMERA)
def test_a_camera_sees_the_image(of: PixelFormat) -> None:
    picture = as_camera(smooth(), of)
    check(picture)
    assert picture.format == of
    assert np.abs(converted(picture).astype(int) - smooth()).max() <= 8


def test_answers_are_compared_in_pairs() -> None:
    found = {
        "RGB": ([1, 2, 3, 4], [0.0] * 4),
        "NV12, planes first": ([1, 2, 9, 9], [1.0, 2.0, 3.0, 2.0]),
        "NV12, converted first": ([1, 9, 3, 9], [0.5] * 4),
    }
    plain, first, other = rows(found, (1, 2, 3, 9))
    assert plain.startswith("| RGB | 75.00% (")
    assert plain.endswith("| 100.0% |  |  | 0.00 |")
    assert first.endswith("| 50.0% | 50.0% | 1, 1 | 2.00 |")
    assert other.endswith("| 50.0% |  |  | 0.50 |")
