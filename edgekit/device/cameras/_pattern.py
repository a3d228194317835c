"""A moving colour gradient in every format, drawn once: what `synthetic://` shows."""

import numpy as np

from edgekit.device.packages import opencv
from edgekit.device.picture import Picture, PixelFormat

STEP = 2
"""Pixels that the picture moves to the left with each frame: formats that share a colour between
two pixels cannot move by one."""
_JPEGS = 8  # drawn beforehand, and shown in turn: JPEGs have no views


class Pattern:
    """Pictures of one size and format; showing one copies nothing.

    Beside each other lie the picture and its repetition, so that a view can move across.
    """

    def __init__(self, of: PixelFormat, width: int, height: int) -> None:
        self._of, self._width, self._height = of, width, height
        self._period = (width + 1) // 2 * 2
        drawn = _draw(2 * self._period, height, self._period)
        if of == "MJPEG":
            self._planes = tuple(
                _jpeg(drawn[:, left : left + width])
                for left in range(0, self._period, STEP * -(-self._period // (STEP * _JPEGS)))
            )
        else:
            self._planes = _planes(of, drawn)
        for plane in self._planes:
            plane.flags.writeable = False

    def picture(self, number: int) -> Picture:
        """What frame `number` shows."""
        of, width, height = self._of, self._width, self._height
        if of == "MJPEG":
            shown = (self._planes[number % len(self._planes)],)
            return Picture(of, width, height, shown, full_range=True)
        left = number * STEP % self._period
        planes = self._planes
        if of == "YUYV" or of == "NV12" or of == "I420":
            pair, pairs = left // 2, (width + 1) // 2
            chroma = tuple(plane[:, pair : pair + pairs] for plane in planes[of != "YUYV" :])
            luma = (planes[0][:, left : left + width],) if of != "YUYV" else ()
            return Picture(of, width, height, luma + chroma)
        view = planes[0][:, left : left + width]
        return Picture(of, width, height, (view,), full_range=of == "GREY")

    def halved(self) -> "Pattern":
        """The same, half as wide and half as high."""
        return Pattern(self._of, max(self._width // 2, 1), max(self._height // 2, 1))


def _draw(columns: int, height: int, period: int) -> np.ndarray:
    """(height, columns, 3) uint8 BGR: blue grows to the right, green downwards, red to the left."""
    x = np.arange(columns) % period * 255 // max(period - 1, 1)
    y = np.arange(height) * 255 // max(height - 1, 1)
    drawn = np.empty((height, columns, 3), np.uint8)
    drawn[..., 0] = x
    drawn[..., 1] = y[:, None]
    drawn[..., 2] = 255 - x
    return drawn


def _planes(of: PixelFormat, drawn: np.ndarray) -> tuple[np.ndarray, ...]:
    """`drawn` in another format; colour pictures with luma are BT.601 in the limited range."""
    if of == "BGR":
        return (drawn,)
    if of == "RGB":
        return (np.ascontiguousarray(drawn[..., ::-1]),)
    blue, green, red = (drawn[..., channel].astype(np.float32) for channel in range(3))
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    if of == "GREY":
        return (_bytes(grey),)
    luma = _bytes(16 + grey * (219 / 255))
    u, v = (
        _halved(128 + (part - grey) * (112 / 255 / (1 - weight)))
        for part, weight in ((blue, 0.114), (red, 0.299))
    )
    if of == "I420":
        return luma, _bytes(_rows_halved(u)), _bytes(_rows_halved(v))
    if of == "NV12":
        return luma, _bytes(_rows_halved(np.stack((u, v), -1)))
    pixels = np.empty((*u.shape, 4), np.uint8)
    pixels[..., 0::2] = luma.reshape(*u.shape, 2)
    pixels[..., 1], pixels[..., 3] = _bytes(u), _bytes(v)
    return (pixels,)


def _halved(plane: np.ndarray) -> np.ndarray:
    """The mean of each two columns."""
    halved: np.ndarray = (plane[:, 0::2] + plane[:, 1::2]) / 2
    return halved


def _rows_halved(plane: np.ndarray) -> np.ndarray:
    """The mean of each two rows; a last odd one stays as it is."""
    low = plane[1::2] if len(plane) % 2 == 0 else np.concatenate((plane[1::2], plane[-1:]))
    halved: np.ndarray = (plane[0::2] + low) / 2
    return halved


def _bytes(plane: np.ndarray) -> np.ndarray:
    return (plane + np.float32(0.5)).astype(np.uint8)


def _jpeg(pixels: np.ndarray) -> np.ndarray:
    cv2 = opencv("a synthetic camera that gives JPEGs")
    encoded: np.ndarray = cv2.imencode(".jpg", np.ascontiguousarray(pixels))[1]
    return encoded.reshape(-1)
