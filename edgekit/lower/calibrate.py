"""Real images for calibration and for the parity gate, through the image contract.

They come from a folder of the user's, or, where none is given, are cut from the photographs that
scikit-image's wheel carries: real pixels, but few scenes.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from edgekit.device.image import list_images, prepare, read_image
from edgekit.errors import InputError, MissingPackage
from edgekit.spec import ImageSpec

LEAST = 32
"""Fewer images than this say too little about the range of an activation."""
CALIBRATION = 128
"""Images that calibration uses of a larger folder, evenly spaced in name order."""
FLAT = 2.0
"""An image whose pixels' standard deviation is under this carries no range."""
LONGEST = 400
"""Longest side of a kept frame, pixels."""

PHOTOGRAPHS = (
    "astronaut.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)


@dataclass(frozen=True, slots=True)
class Images:
    """Model inputs that the image contract makes of camera frames, and the frames, smaller."""

    frames: tuple[np.ndarray, ...]
    """(H, W, 3) uint8 RGB, at most `LONGEST` on a side: what a bundle can carry."""
    inputs: tuple[np.ndarray, ...]
    """(1, height, width, 3) uint8, one per frame, made of it at its full size."""
    source: str
    """For people: where they came from."""

    @property
    def sha256(self) -> str:
        """Fingerprint of the inputs, in order."""
        digest = hashlib.sha256()
        for tensor in self.inputs:
            digest.update(tensor.tobytes())
        return digest.hexdigest()

    def first(self, count: int) -> "Images":
        """`count` of them, evenly spaced."""
        chosen = spaced(range(len(self.inputs)), count)
        return Images(
            tuple(self.frames[i] for i in chosen),
            tuple(self.inputs[i] for i in chosen),
            self.source,
        )


def from_folder(folder: Path, image: ImageSpec, limit: int = CALIBRATION) -> Images:
    """Read up to `limit` images of `folder`, evenly spaced in name order.

    Raises:
        InputError: there is no such folder, or no image in it.
        ImageError: one of them cannot be decoded.
    """
    paths = spaced(list_images(folder), limit)
    if not paths:
        raise InputError(f"{folder} holds no images: give a folder of JPEG or PNG files")
    return _prepared(map(read_image, paths), image, folder.resolve().name)


def from_photographs(image: ImageSpec, count: int = 96) -> Images:
    """Cut `count` views from scikit-image's photographs; the same ones each time.

    Raises:
        MissingPackage: scikit-image is not installed.
    """
    try:
        folder = files("skimage") / "data"
    except ModuleNotFoundError as cause:
        raise MissingPackage(
            "scikit-image", "host", "building without --calibration DIR (its sample photographs)"
        ) from cause
    photographs = [read_image(Path(str(folder / name))) for name in PHOTOGRAPHS]
    return _prepared(_views(photographs, count), image, "scikit-image's sample photographs")


def check_for_quantising(images: Images) -> None:
    """Refuse too few or constant images: they would give wrong ranges without a sign of it.

    Raises:
        InputError: with how many there were and how many it takes.
    """
    count = len(images.inputs)
    if count < LEAST:
        raise InputError(
            f"int8 needs at least {LEAST} images to calibrate on, {images.source} gives {count}; "
            "add images like those the camera will see, or use --precision fp16"
        )
    varied = sum(float(tensor.std()) >= FLAT for tensor in images.inputs)
    distinct = len({hashlib.sha256(tensor.tobytes()).digest() for tensor in images.inputs})
    if min(varied, distinct) < LEAST:
        what = "constant (one flat colour)" if varied < LEAST else "copies of each other"
        raise InputError(
            f"int8 needs at least {LEAST} different images with something in them: of the {count} "
            f"in {images.source}, {count - min(varied, distinct)} are {what}; "
            "give images like those the camera will see"
        )


def to_input(frame: np.ndarray, image: ImageSpec) -> np.ndarray:
    """A frame (H, W, 3) uint8 RGB -> a new (1, height, width, 3) uint8 input."""
    tensor = np.empty((1, image.height, image.width, 3), np.uint8)
    prepare(frame, "RGB", image, tensor[0])
    return tensor


def spaced(items: Sequence, count: int) -> list:  # type: ignore[type-arg]
    """Up to `count` of `items`, evenly spaced, in order, the first one always."""
    if len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def _prepared(frames: Iterable[np.ndarray], image: ImageSpec, source: str) -> Images:
    kept, inputs = [], []
    for frame in frames:
        kept.append(_smaller(frame))
        inputs.append(to_input(frame, image))
    return Images(tuple(kept), tuple(inputs), source)


def _views(photographs: Sequence[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """Boxes of 40 to 100 % of a photograph's sides, every second one mirrored."""
    random = np.random.default_rng(0)
    for n in range(count):
        photograph = photographs[n % len(photographs)]
        height, width = (int(side * random.uniform(0.4, 1.0)) for side in photograph.shape[:2])
        top = int(random.integers(photograph.shape[0] - height + 1))
        left = int(random.integers(photograph.shape[1] - width + 1))
        view = photograph[top : top + height, left : left + width]
        yield np.ascontiguousarray(view[:, ::-1] if n % 2 else view)


def _smaller(frame: np.ndarray) -> np.ndarray:
    """Shrink a frame to at most `LONGEST` pixels a side; each pixel a mean of those it covers."""
    import cv2

    scale = LONGEST / max(frame.shape[:2])
    if scale >= 1:
        return frame
    size = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
    smaller: np.ndarray = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return smaller
