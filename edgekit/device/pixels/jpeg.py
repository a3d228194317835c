"""JPEGs of a camera: decoded at the smallest scale that the model still needs, into our memory."""

import re

import numpy as np

from edgekit.device.packages import simplejpeg
from edgekit.device.pixels.placement import Box
from edgekit.errors import ImageError

HARMLESS = re.compile(r"Corrupt JPEG data: ([1-8]) extraneous bytes before marker 0xd9")
"""Many webcams leave a few bytes over before the end of each picture; all of it is there."""


def reduction(box: Box, width: int, height: int) -> int:
    """How many pixels of the picture become one when it is decoded: 8, 4, 2 or 1, each way.

    The largest at which `box` still has as many pixels as `width` x `height` on both sides. These
    are the scales that every JPEG decoder has; they leave out the high frequencies of each block.
    """
    for n in (8, 4, 2):
        if box.width >= n * width and box.height >= n * height:
            return n
    return 1


class Decoder:
    """Decodes JPEGs of one size at one scale into memory that is kept for the next."""

    def __init__(self, width: int, height: int, reduction: int) -> None:
        """Allocate.

        Args:
            width: of the pictures, pixels.
            height: of the pictures, pixels.
            reduction: 1, 2, 4 or 8.

        Raises:
            MissingPackage: simplejpeg is not installed.
        """
        self._jpeg = simplejpeg("decoding MJPEG")
        self._size = (height, width)
        self.pixels = np.empty((-(-height // reduction), -(-width // reduction), 3), np.uint8)
        """(ceil(height / reduction), ceil(width / reduction), 3) RGB, the last one decoded."""

    def __call__(self, data: np.ndarray) -> np.ndarray:
        """Decode `data`, (bytes,) uint8, into `pixels`, and return those.

        Raises:
            ImageError: it is empty, damaged or cut short, no JPEG, or of another size.
        """
        try:
            found = self._jpeg.decode_jpeg_header(data)[:2]
            if found != self._size:
                raise ImageError(
                    f"the camera sent a JPEG of {found[1]} x {found[0]} pixels in a stream of "
                    f"{self._size[1]} x {self._size[0]}; open it anew if it changed its format"
                )
            # Of all scales n/8 it takes the smallest that gives at least this size, which is ours.
            height, width = self.pixels.shape[:2]
            self._jpeg.decode_jpeg(
                data, "RGB", min_height=height, min_width=width, buffer=self.pixels
            )
        except ValueError as error:
            # The pixels are decoded all the same; a warning comes after them.
            if not HARMLESS.fullmatch(str(error)):
                raise ImageError(
                    f"cannot decode a JPEG of {len(data)} bytes from the camera: {error}"
                ) from error
        return self.pixels
