"""One plane of a picture, or a part of it, resized into memory of the model's size."""

import functools
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np

from edgekit.device.copies import Copies
from edgekit.device.packages import opencv
from edgekit.device.pixels import reference
from edgekit.device.pixels.exact import Exact
from edgekit.device.pixels.placement import Box
from edgekit.device.pixels.planes import addressable

Interpolation: TypeAlias = Literal["bilinear", "area"]
Way: TypeAlias = Literal["plain", "scaled", "numpy"]
"""How to have bilinear as it is defined: from OpenCV as it is, from OpenCV's own code, or not from
OpenCV. Its wheels for Arm hand a plain resize to Carotene and KleidiCV, which are off by up to 3,
and at the edges by anything. They decline a scale that does not fit the sizes exactly."""
Resize: TypeAlias = Callable[[np.ndarray, np.ndarray], object]
"""Resizes the first into the second."""


def averages(box: Box, width: int, height: int, interpolation: Interpolation) -> bool:
    """Whether `area` is meant and neither side grows: else it is bilinear."""
    return interpolation == "area" and box.width >= width and box.height >= height


class Resizer:
    """Resizes the same box of one plane after another; what it needs is allocated once."""

    def __init__(
        self,
        plane: np.ndarray,
        box: Box,
        width: int,
        height: int,
        interpolation: Interpolation,
        copies: Copies,
    ) -> None:
        """Look at the first plane.

        Args:
            plane: (H, W) or (H, W, c) uint8: the layout of all that will come; not kept.
            box: which part of it.
            width: wanted, pixels.
            height: wanted, pixels.
            interpolation: see `ImageSpec`.
            copies: counts a box that OpenCV cannot read where it lies.
        """
        self._copies = copies
        self._rows = slice(box.top, box.top + box.height)
        self._columns = slice(box.left, box.left + box.width)
        part = plane[self._rows, self._columns]
        area = averages(box, width, height, interpolation)
        self._staged = None if addressable(part) else np.empty(part.shape, np.uint8)
        if area:
            how = opencv("resizing images").INTER_AREA
            self._resize = _by_opencv(how, width, height)
        else:
            self._resize = bilinear(part.shape, height, width, way())
        self.made: np.ndarray = np.empty((height, width, *part.shape[2:]), np.uint8)
        """(height, width) or (height, width, c): where `__call__` writes unless told otherwise."""

    def __call__(self, plane: np.ndarray, into: np.ndarray | None = None) -> np.ndarray:
        """Resize the box of `plane` into `into`, or into `made`; gives back which."""
        box, into = plane[self._rows, self._columns], self.made if into is None else into
        if self._staged is not None:
            # OpenCV reads only rows of pixels that lie side by side.
            np.copyto(self._staged, box)
            self._copies.add("frame", "unusual strides", self._staged.nbytes)
            box = self._staged
        self._resize(box, into)
        return into


def bilinear(shape: tuple[int, ...], height: int, width: int, way: Way) -> Resize:
    """What resizes planes of `shape`, (H, W) or (H, W, c), to `height` x `width` in that way."""
    cv2, rows, columns = opencv("resizing images"), shape[0], shape[1]
    if way == "numpy":
        return Exact(shape, height, width)
    halves = rows == 2 * height and columns == 2 * width
    if halves and (way == "scaled" or shape[2:] == (2,)):
        # OpenCV takes the mean of 2 x 2 for a bilinear half. That is the same number, but of two
        # channels it rounds half to even. Its exact kind gives the number that is defined.
        return _by_opencv(cv2.INTER_LINEAR_EXACT, width, height)
    if way == "plain":
        return _by_opencv(cv2.INTER_LINEAR, width, height)
    # Without the last row of the plane, the scale that is given does not fit the sizes.
    made = round((rows - 1) * (height / rows))
    fits = abs(made * rows / height - (rows - 1)) < 0.11
    before, _ = reference.positions(rows, height)
    whole = int((before + 1 <= rows - 2).sum())  # the rows that do without it
    if fits or not max(1, height - 3) <= whole <= made <= height:
        return Exact(shape, height, width)
    return _Scaled(shape, height, width, made, whole)


@functools.lru_cache
def way() -> Way:
    """The first way that gives what is defined, tried out once; the same for the process."""
    ways: tuple[Way, ...] = ("plain", "scaled")
    # As good as noise, and needs no generator, which takes 20 ms to import.
    noise = (np.arange(61 * 57 * 4) * 48271 % 65537).astype(np.uint8).reshape(61, 57, 4)
    for found in ways:
        for channels in (1, 2, 3, 4):
            plane = np.ascontiguousarray(noise[..., :channels])
            made = np.empty((24, 27, channels), np.uint8)
            if channels == 1:  # OpenCV's own images have no axis of one channel
                bilinear((61, 57), 24, 27, found)(plane[..., 0], made[..., 0])
            else:
                bilinear(plane.shape, 24, 27, found)(plane, made)
            if not np.array_equal(made, reference.resize(plane, 24, 27)):
                break
        else:
            return found
    return "numpy"


def _by_opencv(how: int, width: int, height: int) -> Resize:
    resize: Any = opencv("resizing images").resize
    size = (width, height)
    return lambda box, into: resize(box, size, dst=into, interpolation=how)


class _Scaled:
    """OpenCV's own code: all rows but the last of the plane, at a scale given apart."""

    def __init__(
        self, shape: tuple[int, ...], height: int, width: int, made: int, whole: int
    ) -> None:
        cv2 = opencv("resizing images")
        self._resize, self._how = cv2.resize, cv2.INTER_LINEAR
        self._scale = (width / shape[1], height / shape[0])
        self._made, self._whole = made, whole
        self._last = Exact(shape, height, width, whole)

    def __call__(self, plane: np.ndarray, into: np.ndarray) -> None:
        across, down = self._scale
        self._resize(
            plane[:-1], None, dst=into[: self._made], fx=across, fy=down, interpolation=self._how
        )
        self._last(plane, into[self._whole :])
