"""The image contract, carried out: from camera pixels to the model's input memory.

One function, `prepare`, serves training's evaluation, calibration, the parity gate and the device,
so all of them feed a model the same pixels. It crops by slicing (no copy), resizes once straight
into the model's input, and fixes the colour order there, at the small size.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from edgekit.device.copies import UNCOUNTED, Copies
from edgekit.device.packages import opencv
from edgekit.device.picture import Picture
from edgekit.errors import ImageError, SpecError
from edgekit.spec import ImageSpec

Order: TypeAlias = Literal["RGB", "BGR"]
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
"""The file names that `list_images` takes for images, in lower case."""


@dataclass(frozen=True, slots=True)
class Box:
    """Whole pixels: columns `left` to `left + width`, rows `top` to `top + height`."""

    left: int
    top: int
    width: int
    height: int

    def of(self, image: np.ndarray) -> np.ndarray:
        """The part of `image` (H, W, ...) in this box; a view, no copy."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True, slots=True)
class Placement:
    """Which pixels of the source lie where in the model's input."""

    source: Box
    """In pixels of the source image."""
    target: Box
    """In pixels of the model's input; the rest of it is margin."""

    def to_source(self, x: float, y: float) -> tuple[float, float]:
        """Map a point of the model's input to the source; (0, 0) is a corner, not a centre."""
        return (
            self.source.left + (x - self.target.left) * self.source.width / self.target.width,
            self.source.top + (y - self.target.top) * self.source.height / self.target.height,
        )


def placement(width: int, height: int, spec: ImageSpec) -> Placement:
    """Where an image of `width` x `height` pixels goes under `spec`.

    Exact, for ports:

    - `crop`: s = min(width / w, height / h) * crop_fraction in float64; the box is
      floor(w * s + 0.5) x floor(h * s + 0.5), at least 1 and at most the image, and starts at
      floor((width - box width) / 2), likewise down. It fills the input.
    - `stretch`: the whole image fills the input.
    - `letterbox`: s = min(w / width, h / height); the whole image goes into a box of
      floor(width * s + 0.5) x floor(height * s + 0.5), at least 1, centred the same way.

    Args:
        width: of the source, pixels.
        height: of the source, pixels.
        spec: the contract; (h, w) above is its (height, width).
    """
    whole_source, whole_target = Box(0, 0, width, height), Box(0, 0, spec.width, spec.height)
    if spec.fit == "stretch":
        return Placement(whole_source, whole_target)
    if spec.fit == "letterbox":
        scale = min(spec.width / width, spec.height / height)
        return Placement(whole_source, _centred(width * scale, height * scale, whole_target))
    scale = min(width / spec.width, height / spec.height) * spec.crop_fraction
    return Placement(_centred(spec.width * scale, spec.height * scale, whole_source), whole_target)


def prepare(
    pixels: np.ndarray, order: Order, spec: ImageSpec, out: np.ndarray, copies: Copies = UNCOUNTED
) -> Placement:
    """Write `pixels` into `out` as `spec` says: crop, one resize, colour order.

    `bilinear` samples at half-pixel centres without anti-aliasing and repeats the box's edge;
    `area` is the mean over the covered source pixels where neither side grows, else `bilinear`.
    A CPU's SIMD may round the last bit differently: results agree within 1.

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
    cv2 = opencv("resizing images")
    _check(pixels, order, spec, out)
    place = placement(pixels.shape[1], pixels.shape[0], spec)
    box, target = _dense(place.source.of(pixels), copies), place.target.of(out)
    if target.shape != out.shape:
        out[...] = spec.fill  # 150 KB at 224 x 224: cheaper than four margins done apart
        copies.add("input", "letterbox margins", out.nbytes)
    cv2.resize(
        box, (target.shape[1], target.shape[0]), dst=target,
        interpolation=_interpolation(cv2, box, target, spec),
    )  # fmt: skip
    copies.add("input", "resize", target.nbytes)
    if order == "BGR":
        cv2.cvtColor(out, cv2.COLOR_BGR2RGB, dst=out)  # in place, after the resize: 7 us at 224
        copies.add("input", "colour order", out.nbytes)
    return place


class Preparer:
    """Prepares one picture after another under one contract; what it needs is allocated once.

    One thread uses it.
    """

    def __init__(self, spec: ImageSpec, copies: Copies = UNCOUNTED) -> None:
        """Keep the contract.

        Args:
            spec: the image contract.
            copies: counts the bytes written.
        """
        self._spec, self._copies = spec, copies

    def __call__(self, picture: Picture, out: np.ndarray) -> Placement:
        """Write `picture` into `out`, (spec.height, spec.width, 3) uint8 RGB, C-contiguous.

        Raises:
            SpecError: `picture` or `out` is not as it must be.
            ImageError: a JPEG that cannot be decoded.
            MissingPackage: OpenCV is not installed.
        """
        if picture.format in ("RGB", "BGR") and not picture.turns:
            return prepare(picture.planes[0], picture.format, self._spec, out, self._copies)
        return prepare(full_bgr(picture), "BGR", self._spec, out, self._copies)


def full_bgr(picture: Picture) -> np.ndarray:
    """The whole picture, upright, for people to look at: (H, W, 3) uint8 BGR, a copy.

    Raises:
        SpecError: `picture` is not as it must be.
        ImageError: a JPEG that cannot be decoded.
        MissingPackage: OpenCV is not installed.
    """
    cv2 = opencv("showing frames")
    planes, of = picture.planes, picture.format
    if of == "BGR":
        made = planes[0].copy()
    elif of == "RGB":
        made = np.ascontiguousarray(planes[0][..., ::-1])
    elif of == "GREY":
        made = cv2.cvtColor(np.ascontiguousarray(planes[0]), cv2.COLOR_GRAY2BGR)
    elif of == "YUYV":
        packed = np.ascontiguousarray(planes[0]).reshape(picture.height, -1, 2)
        made = cv2.cvtColor(packed, cv2.COLOR_YUV2BGR_YUYV)
    elif of == "NV12":
        y, uv = (np.ascontiguousarray(plane) for plane in planes)
        made = cv2.cvtColorTwoPlane(y, uv, cv2.COLOR_YUV2BGR_NV12)
    elif of == "I420":
        flat = np.concatenate([np.ravel(plane) for plane in planes])
        made = cv2.cvtColor(flat.reshape(-1, picture.width), cv2.COLOR_YUV2BGR_I420)
    else:
        made = cv2.imdecode(planes[0], cv2.IMREAD_COLOR)
    return np.ascontiguousarray(np.rot90(made, picture.turns)) if picture.turns else made


def read_image(path: Path) -> np.ndarray:
    """Decode an image file.

    Grey becomes three equal channels, transparency is dropped, 16 bits become 8, and the EXIF
    orientation is applied.

    Returns:
        (H, W, 3) uint8, RGB, C-contiguous, owned by the caller.

    Raises:
        ImageError: the file cannot be read, is cut short, or is no image.
        MissingPackage: OpenCV is not installed.
    """
    cv2 = opencv("reading images")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read the image {path}: {error.strerror}") from error
    if data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < 0:  # from the end, where it is
        raise ImageError(f"the image {path} is cut short: a JPEG without its end; copy it again")
    pixels = _decode(cv2, data, path)
    if pixels is None:
        raise ImageError(
            f"{path} ({len(data)} bytes) is not an image that can be decoded; "
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


def _centred(width: float, height: float, inside: Box) -> Box:
    w = min(max(int(width + 0.5), 1), inside.width)
    h = min(max(int(height + 0.5), 1), inside.height)
    return Box((inside.width - w) // 2, (inside.height - h) // 2, w, h)


def _interpolation(cv2: Any, box: np.ndarray, target: np.ndarray, spec: ImageSpec) -> int:
    shrinks = box.shape[0] >= target.shape[0] and box.shape[1] >= target.shape[1]
    area = spec.interpolation == "area" and shrinks
    return int(cv2.INTER_AREA if area else cv2.INTER_LINEAR)


def _dense(box: np.ndarray, copies: Copies) -> np.ndarray:
    """`box` itself where its pixels lie side by side; OpenCV cannot address anything else."""
    rows, columns, channels = box.strides
    if channels == 1 and columns == 3 and rows >= 3 * box.shape[1]:
        return box
    copies.add("frame", "unusual strides", box.nbytes)
    return np.ascontiguousarray(box)


def _decode(cv2: Any, data: bytes, path: Path) -> np.ndarray | None:
    if not data:
        return None
    try:
        decoded: np.ndarray | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageError(f"cannot decode the image {path}: {error}") from error
    return decoded


def _check(pixels: np.ndarray, order: str, spec: ImageSpec, out: np.ndarray) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise SpecError(
            f"an image must be (H, W, 3) uint8 with at least one pixel, "
            f"got {pixels.shape} {pixels.dtype}"
        )
    if order not in ("RGB", "BGR"):
        raise SpecError(f"the colour order must be 'RGB' or 'BGR', got {order!r}")
    expected = (spec.height, spec.width, 3)
    if out.shape != expected or out.dtype != np.uint8:
        raise SpecError(f"the model's input must be {expected} uint8, got {out.shape} {out.dtype}")
    if not out.flags.c_contiguous or not out.flags.writeable:
        raise SpecError("the model's input must be C-contiguous and writable")
