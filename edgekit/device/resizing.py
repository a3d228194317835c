"""One plane of a picture, or a part of it, resized into memory of the model's size by OpenCV."""

from typing import Any, Literal, TypeAlias

import numpy as np

from edgekit.device.copies import Copies
from edgekit.device.packages import opencv
from edgekit.device.placement import Box
from edgekit.device.planes import addressable

Interpolation: TypeAlias = Literal["bilinear", "area"]


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
        *,
        real: bool = False,
    ) -> None:
        """Look at the first plane.

        Args:
            plane: (H, W) or (H, W, c) uint8: the layout of all that will come; not kept.
            box: which part of it.
            width: wanted, pixels.
            height: wanted, pixels.
            interpolation: see `ImageSpec`.
            copies: counts a box that OpenCV cannot read where it lies.
            real: give the mean of `area` as float32, not rounded, so that the next step rounds
                once; that costs a copy of the box.
        """
        cv2 = opencv("resizing images")
        self._resize: Any = cv2.resize
        self._size, self._copies = (width, height), copies
        self._rows = slice(box.top, box.top + box.height)
        self._columns = slice(box.left, box.left + box.width)
        part = plane[self._rows, self._columns]
        area = averages(box, width, height, interpolation)
        self._staged: np.ndarray | None = None
        if area and real:
            self._staged, self._why = np.empty(part.shape, np.float32), "mean in real numbers"
        elif not addressable(part):
            self._staged, self._why = np.empty(part.shape, np.uint8), "unusual strides"
        self._how = cv2.INTER_AREA if area else cv2.INTER_LINEAR
        halves = box.width == 2 * width and box.height == 2 * height
        if halves and not area and part.shape[2:] == (2,):
            # OpenCV takes the mean of 2 x 2 for a bilinear half. That is the same number, but of
            # two channels it rounds half to even. The exact one gives the number we define here.
            self._how = cv2.INTER_LINEAR_EXACT
        made = np.float32 if area and real else np.uint8
        self.made: np.ndarray = np.empty((height, width, *part.shape[2:]), made)
        """(height, width) or (height, width, c): where `__call__` writes unless told otherwise."""

    def __call__(self, plane: np.ndarray, into: np.ndarray | None = None) -> np.ndarray:
        """Resize the box of `plane` into `into`, or into `made`; gives back which."""
        box, into = plane[self._rows, self._columns], self.made if into is None else into
        if self._staged is not None:
            # OpenCV reads only rows of pixels that lie side by side; and it rounds the mean of
            # bytes, which the colour matrix would make an error of 3 from.
            np.copyto(self._staged, box)
            self._copies.add("frame", self._why, self._staged.nbytes)
            box = self._staged
        self._resize(box, self._size, dst=into, interpolation=self._how)
        return into
