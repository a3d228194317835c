"""Images at the edge of what a camera gives: every hop of the gate runs them beside the real ones.

Made by integer arithmetic from a seed, so they are the same everywhere. They are in no calibration
and in no golden frame: their answers mean nothing, only that all forms of a network give the same.
"""

import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edgekit.device.image import read_image
from edgekit.device.packages import opencv
from edgekit.errors import ParityError
from edgekit.lower.calibrate import Images, to_input
from edgekit.spec import ImageSpec

ORIENTATION = 6
"""EXIF: the camera was turned; the picture is to be turned clockwise by 90 degrees."""
BRIGHT, DARK = 255, 0


@cache
def frames() -> Mapping[str, np.ndarray]:
    """(H, W, 3) uint8 RGB frames by what they are.

    Raises:
        ParityError: this machine's image reader does not turn a picture as its EXIF says.
    """
    return {
        "very wide": _blocks(17, 600),
        "very tall": _blocks(600, 17),
        "one pixel high": _blocks(1, 300),
        "one pixel": _blocks(1, 1),
        "grey": np.repeat(_blocks(120, 160)[:, :, :1], 3, axis=2),
        "saturated": np.where(_blocks(120, 160) < 128, DARK, BRIGHT).astype(np.uint8),
        "black": np.full((120, 160, 3), DARK, np.uint8),
        "white": np.full((120, 160, 3), BRIGHT, np.uint8),
        "checker": _checker(240, 240),
        "turned by EXIF": _turned(_blocks(96, 144)),
    }


def images(image: ImageSpec) -> Images:
    """The frames, and the inputs that the image contract makes of them."""
    made = tuple(frames().values())
    return Images(made, tuple(to_input(frame, image) for frame in made), "generated")


def _blocks(height: int, width: int) -> np.ndarray:
    """Blocks of random colours, up to 16 pixels a side."""
    rows, columns = -(-height // 16), -(-width // 16)
    colours = np.random.default_rng(height * width).integers(0, 256, (rows, columns, 3), np.uint8)
    return np.ascontiguousarray(colours.repeat(16, 0).repeat(16, 1)[:height, :width])


def _checker(height: int, width: int) -> np.ndarray:
    """Black and white, of one pixel each: the sharpest edges that there can be."""
    light = np.add.outer(np.arange(height), np.arange(width)) % 2 == 1
    return np.where(light[:, :, None], BRIGHT, DARK).astype(np.uint8).repeat(3, axis=2)


def _turned(frame: np.ndarray) -> np.ndarray:
    """`frame` as a JPEG that is to be turned, read by the device's own reader."""
    cv2 = opencv("writing JPEG")
    encoded, data = cv2.imencode(".jpg", frame)
    assert encoded
    lying = cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1]
    with TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "turned.jpg"
        path.write_bytes(with_orientation(data.tobytes(), ORIENTATION))
        found = read_image(path)
    if not np.array_equal(found, np.rot90(lying, -1)):
        raise ParityError(
            "parity gate: a JPEG whose EXIF orientation is 6 is not turned clockwise when it is "
            "read, as the image contract wants it; install another opencv-python-headless; no "
            "bundle was written"
        )
    return found


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """A JPEG with an EXIF orientation tag, 1 to 8 (EXIF 2.32, 4.6.4), put behind its first marker.

    The segment holds a little-endian TIFF header and one directory of one entry: 0x0112, SHORT.
    """
    tiff = struct.pack("<2sHI", b"II", 42, 8) + struct.pack(
        "<HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0
    )
    content = b"Exif\0\0" + tiff
    segment = b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content
    return jpeg[:2] + segment + jpeg[2:]
