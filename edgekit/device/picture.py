"""A picture: pixels where they lie, and all that is needed to read them.

Cameras give colour in planes (a full-size grey one and half-size ones of colour) or as JPEG, and
each row may be padded. A `Picture` says which it is; it owns nothing and converts nothing.
"""

from dataclasses import dataclass
from mmap import mmap
from typing import Literal, TypeAlias, get_args

import numpy as np

from edgekit.errors import SpecError

Buffer: TypeAlias = bytearray | memoryview | mmap | np.ndarray
"""Memory that numpy can look at."""

PixelFormat: TypeAlias = Literal["RGB", "BGR", "GREY", "YUYV", "NV12", "I420", "MJPEG"]
FORMATS: tuple[PixelFormat, ...] = get_args(PixelFormat)

Matrix: TypeAlias = Literal["bt601", "bt709"]


@dataclass(frozen=True, slots=True)
class Picture:
    """Pixels in memory that somebody else owns.

    The planes are uint8, for a picture of W x H pixels:

    | format | planes |
    |---|---|
    | `RGB`, `BGR` | (H, W, 3) |
    | `GREY` | (H, W), grey as `full_range` says |
    | `YUYV` | (H, ceil(W / 2), 4): Y0 U Y1 V |
    | `NV12` | Y (H, W); U and V (ceil(H / 2), ceil(W / 2), 2) |
    | `I420` | Y (H, W); U and V, (ceil(H / 2), ceil(W / 2)) each |
    | `MJPEG` | (bytes,): one whole JPEG |

    The rows of a plane may be apart (a driver's `bytesperline`, a crop); the pixels of a row lie
    side by side.
    """

    format: PixelFormat
    width: int
    """W, in pixels, as the memory has it: before `turns`."""
    height: int
    """H."""
    planes: tuple[np.ndarray, ...]
    matrix: Matrix = "bt601"
    """How Y, U and V make colour. A JPEG says so itself (BT.601)."""
    full_range: bool = False
    """Whether black is 0 and white 255, as in a JPEG, and not 16 and 235."""
    turns: int = 0
    """Quarter turns counter-clockwise that put it upright, 0 to 3: what `numpy.rot90` takes."""

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) after `turns`."""
        return (self.height, self.width) if self.turns % 2 else (self.width, self.height)


def rgb(pixels: np.ndarray) -> Picture:
    """(H, W, 3) uint8 in the order red, green, blue."""
    return Picture("RGB", pixels.shape[1], pixels.shape[0], (pixels,))


def bgr(pixels: np.ndarray) -> Picture:
    """(H, W, 3) uint8 in the order blue, green, red: OpenCV's."""
    return Picture("BGR", pixels.shape[1], pixels.shape[0], (pixels,))


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the planes of a picture lie in a piece of memory: what a driver negotiates once."""

    format: PixelFormat
    width: int
    height: int
    planes: tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]
    """Per plane: its offset in bytes, its shape and its strides in bytes."""
    nbytes: int
    """How much memory it takes; for `MJPEG`, the longest that fits."""
    matrix: Matrix = "bt601"
    full_range: bool = False
    turns: int = 0

    def over(self, memory: Buffer, used: int = 0) -> Picture:
        """The picture in `memory`, not copied.

        Args:
            memory: at least `nbytes` long.
            used: of a JPEG, how many bytes of it are filled.
        """
        planes = tuple(
            np.ndarray(shape, np.uint8, memory, offset, strides)
            for offset, shape, strides in self.planes
        )
        if self.format == "MJPEG":
            planes = (planes[0][:used],)
        return Picture(
            self.format, self.width, self.height, planes, self.matrix, self.full_range, self.turns
        )


def layout(
    of: PixelFormat,
    width: int,
    height: int,
    stride: int = 0,
    *,
    nbytes: int = 0,
    matrix: Matrix = "bt601",
    full_range: bool = False,
) -> Layout:
    """The usual layout: planes one after the other, as V4L2's single-planar formats have them.

    Args:
        of: the format.
        width: in pixels.
        height: in pixels.
        stride: bytes from one row to the next, in the first plane (V4L2's `bytesperline`); 0: rows
            are not padded. NV12's second plane has the same, I420's two have half of it.
        nbytes: of an MJPEG, the most that one picture takes; of others not needed.
        matrix: see `Picture`.
        full_range: see `Picture`.

    Raises:
        SpecError: a row does not fit into `stride`, or an MJPEG without `nbytes`.
    """
    half_width, half_height = (width + 1) // 2, (height + 1) // 2
    row = {"RGB": 3 * width, "BGR": 3 * width, "YUYV": 4 * half_width}.get(of, width)
    stride = stride or row
    planes: tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]
    if stride < row:
        raise SpecError(f"a row of {width} pixels {of} takes {row} bytes, got a stride of {stride}")
    if of == "MJPEG":
        if nbytes < 1:
            raise SpecError("the layout of MJPEG needs the most bytes that a picture takes")
        planes, needed = ((0, (nbytes,), (1,)),), nbytes
    elif of in ("RGB", "BGR"):
        planes, needed = ((0, (height, width, 3), (stride, 3, 1)),), stride * height
    elif of == "GREY":
        planes, needed = ((0, (height, width), (stride, 1)),), stride * height
    elif of == "YUYV":
        planes, needed = ((0, (height, half_width, 4), (stride, 4, 1)),), stride * height
    else:
        luma = (0, (height, width), (stride, 1))
        start = stride * height
        if of == "NV12":
            stride += stride % 2  # of an odd width, U and V of the last pixel still fit
            planes = (luma, (start, (half_height, half_width, 2), (stride, 2, 1)))
            needed = start + stride * half_height
        else:
            half = (stride + 1) // 2
            size = half * half_height
            u, v = ((start + n * size, (half_height, half_width), (half, 1)) for n in (0, 1))
            planes, needed = (luma, u, v), start + 2 * size
    return Layout(of, width, height, planes, max(needed, nbytes), matrix, full_range)
