"""What the planes of a picture must look like, and whether OpenCV can address them."""

from typing import get_args

import numpy as np

from edgekit.device.picture import FORMATS, Matrix, Picture
from edgekit.errors import SpecError


def check(picture: Picture) -> None:
    """Refuse a picture whose planes do not hold it.

    Raises:
        SpecError: says what there is and what there should be.
    """
    width, height = picture.width, picture.height
    if picture.format not in FORMATS:
        raise SpecError(f"no pixel format {picture.format!r}; there are {', '.join(FORMATS)}")
    if width < 1 or height < 1:
        raise SpecError(f"a picture must have at least one pixel, got {width} x {height}")
    if picture.matrix not in get_args(Matrix):
        raise SpecError(
            f"no colour matrix {picture.matrix!r}; there are {', '.join(get_args(Matrix))}"
        )
    if picture.turns not in (0, 1, 2, 3):
        raise SpecError(f"the quarter turns must be 0, 1, 2 or 3, got {picture.turns!r}")
    given = tuple(plane.shape for plane in picture.planes)
    expected = given if picture.format == "MJPEG" else shapes(picture)
    if picture.format == "MJPEG" and (
        len(given) != 1 or len(given[0]) != 1 or picture.planes[0].strides != (1,)
    ):
        raise SpecError(f"a JPEG must be one row of bytes without gaps, got planes {given}")
    if given != expected:
        raise SpecError(
            f"{picture.format} of {width} x {height} pixels has planes of the shapes "
            f"{_written(expected)}, got {_written(given)}"
        )
    for plane in picture.planes:
        if plane.dtype != np.uint8:
            raise SpecError(f"the planes of a picture must be uint8, got {plane.dtype}")


def shapes(picture: Picture) -> tuple[tuple[int, ...], ...]:
    """The shapes that its planes must have; not of a JPEG."""
    width, height = picture.width, picture.height
    half = ((height + 1) // 2, (width + 1) // 2)
    if picture.format == "GREY":
        return ((height, width),)
    if picture.format == "YUYV":
        return ((height, half[1], 4),)
    if picture.format == "NV12":
        return ((height, width), (*half, 2))
    if picture.format == "I420":
        return ((height, width), half, half)
    return ((height, width, 3),)


def addressable(box: np.ndarray) -> bool:
    """Whether OpenCV can read `box`, (h, w) or (h, w, c), where it lies.

    Its pixels must lie side by side, and its rows one after the other, gaps between them allowed.
    """
    size = 1
    for length, stride in zip(box.shape[:0:-1], box.strides[:0:-1], strict=True):
        if stride != size * box.itemsize:
            return False
        size *= length
    return box.strides[0] >= size * box.itemsize


def _written(shapes: tuple[tuple[int, ...], ...]) -> str:
    return " and ".join(str(shape) for shape in shapes) or "none"
