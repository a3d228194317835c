"""The image contract, carried out: from pixels to the model's input memory.

`prepare` serves training's evaluation, calibration, the parity gate and the golden vectors;
`Preparer` the camera loop. They are one: both feed a model the same pixels.
"""

from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from edgekit.device.copies import UNCOUNTED, Copies
from edgekit.device.packages import opencv
from edgekit.device.picture import Picture
from edgekit.device.pixels.placement import Box, Placement, placement
from edgekit.device.pixels.preparer import Preparer
from edgekit.errors import ImageError, SpecError
from edgekit.spec import ImageSpec

__all__ = [
    "SUFFIXES", "Box", "Order", "Placement", "Preparer", "decode_image", "full_bgr", "list_images",
    "placement", "prepare", "read_image",
]  # fmt: skip

Order: TypeAlias = Literal["RGB", "BGR"]
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
"""The file names that `list_images` takes for images, in lower case."""


def prepare(
    pixels: np.ndarray, order: Order, spec: ImageSpec, out: np.ndarray, copies: Copies = UNCOUNTED
) -> Placement:
    """Write `pixels` into `out` as `spec` says: crop, one resize, colour order.

    `bilinear` samples at half-pixel centres without anti-aliasing and repeats the box's edge;
    `area` is the mean over the covered source pixels where neither side grows, else `bilinear`.
    `pixels.reference` has them exactly; a CPU's SIMD may round the last bit differently.

    Args:
        pixels: (H, W, 3) uint8, lent by the camera; only read. Any strides; unusual ones (mirrored,
            transposed) cost a counted copy of the box.
        order: of the channels of `pixels`.
        spec: the image contract.
        out: (spec.height, spec.width, 3) uint8, C-contiguous and writable: the session's own input
            memory; written in full, kept by nobody.
        copies: counts the bytes written.

    Raises:
        SpecError: `pixels`, `order` or `out` is not as above.
        MissingPackage: OpenCV is not installed.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise SpecError(
            f"an image must be (H, W, 3) uint8 with at least one pixel, "
            f"got {pixels.shape} {pixels.dtype}"
        )
    if order not in ("RGB", "BGR"):
        raise SpecError(f"the colour order must be 'RGB' or 'BGR', got {order!r}")
    picture = Picture(order, pixels.shape[1], pixels.shape[0], (pixels,))
    return Preparer(spec, copies)(picture, out)


def full_bgr(picture: Picture) -> np.ndarray:
    """The whole picture, upright, for people to look at: (H, W, 3) uint8 BGR, a copy.

    Raises:
        SpecError: `picture` is not as it must be.
        ImageError: a JPEG that cannot be decoded.
        MissingPackage: OpenCV, or of a JPEG simplejpeg, is not installed.
    """
    cv2 = opencv("showing frames")
    width, height = picture.upright_size
    made = np.empty((height, width, 3), np.uint8)
    Preparer(ImageSpec(height, width, fit="stretch"))(picture, made)
    cv2.cvtColor(made, cv2.COLOR_RGB2BGR, dst=made)
    return made


def read_image(path: Path) -> np.ndarray:
    """Decode an image file; see `decode_image`.

    Raises:
        ImageError: the file cannot be read, is cut short, or is no image.
        MissingPackage: OpenCV is not installed.
    """
    opencv("reading images")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read the image {path}: {error.strerror}") from error
    return decode_image(data, str(path))


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decode an image file's bytes; `name` is what an error calls it.

    Grey becomes three equal channels, transparency is dropped, 16 bits become 8, and the EXIF
    orientation is applied.

    Returns:
        (H, W, 3) uint8, RGB, C-contiguous, owned by the caller.

    Raises:
        ImageError: the bytes are cut short, or are no image.
        MissingPackage: OpenCV is not installed.
    """
    cv2 = opencv("reading images")
    if data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < 0:  # from the end, where it is
        raise ImageError(f"the image {name} is cut short: a JPEG without its end; copy it again")
    pixels = _decode(cv2, data, name)
    if pixels is None:
        raise ImageError(
            f"{name} ({len(data)} bytes) is not an image that can be decoded; "
            "give a JPEG, PNG, WebP, BMP or TIFF file"
        )
    rgb: np.ndarray = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
    return rgb


def list_images(folder: Path) -> tuple[Path, ...]:
    """The image files in `folder` and the folders in it, by file name, sorted by path.

    Hidden files and folders are passed over.

    Raises:
        ImageError: no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise ImageError(f"no folder {folder}; give a folder of images")
    found = tuple(
        sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in SUFFIXES
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
            and path.is_file()
        )
    )
    if not found:
        raise ImageError(f"no images in {folder}; looked for {', '.join(sorted(SUFFIXES))}")
    return found


def _decode(cv2: Any, data: bytes, name: str) -> np.ndarray | None:
    if not data:
        return None
    try:
        decoded: np.ndarray | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageError(f"cannot decode the image {name}: {error}") from error
    return decoded
