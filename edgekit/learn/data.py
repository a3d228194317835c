"""Labelled images in memory: a zip or a folder of `<split>/<class folder>/.../*.jpg`."""

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from edgekit.errors import ImageError, InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")


@dataclass(frozen=True, slots=True)
class Images:
    """`pixels` (N, H, W, 3) uint8 RGB and `targets` (N,) int64, in the order of their names."""

    pixels: np.ndarray
    targets: np.ndarray


def read(path: Path, split: str, folders: Sequence[str]) -> Images:
    """Read one split; target `t` is the place of an image's folder in `folders`.

    Raises InputError when the data is missing, has no images of a class, or has images of
    several sizes, and ImageError when one cannot be decoded.
    """
    numbers = {folder: number for number, folder in enumerate(folders)}
    pixels, targets = [], []
    for name, encoded in _files(path, split):
        folder = PurePosixPath(name).parts[1]
        if folder in numbers:
            pixels.append(_decode(encoded, f"{path}: {name}"))
            targets.append(numbers[folder])
    return _stack(pixels, targets, path, split, folders)


def _stack(
    pixels: list[np.ndarray], targets: list[int], path: Path, split: str, folders: Sequence[str]
) -> Images:
    absent = [folder for number, folder in enumerate(folders) if number not in set(targets)]
    if absent:
        raise InputError(
            f"{path} has no images under {split}/{absent[0]}/ ({len(absent)} of {len(folders)} "
            f"classes are empty); expected {split}/<class folder>/*.jpg or .png"
        )
    shapes = {image.shape for image in pixels}
    if len(shapes) > 1:
        raise InputError(
            f"{path}: the images of '{split}' have {len(shapes)} sizes, such as "
            f"{sorted(shapes)[0]} and {sorted(shapes)[-1]}; resize them to one size first"
        )
    return Images(np.stack(pixels), np.array(targets, np.int64))


def _files(path: Path, split: str) -> Iterator[tuple[str, bytes]]:
    """Names, relative and with forward slashes, and bytes of the images of one split, sorted."""
    if path.is_dir():
        for file in sorted((path / split).rglob("*")):
            if file.suffix.lower() in SUFFIXES:
                yield file.relative_to(path).as_posix(), file.read_bytes()
        return
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if name.startswith(f"{split}/") and name.lower().endswith(SUFFIXES):
                    yield name, archive.read(name)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(
            f"cannot read the training data {path}: {error}; "
            f"expected a zip or a folder with train/ and val/, named by --data"
        ) from error


def _decode(encoded: bytes, name: str) -> np.ndarray:
    stored = np.frombuffer(encoded, np.uint8)
    image = cv2.imdecode(stored, cv2.IMREAD_COLOR) if stored.size else None
    if image is None:
        raise ImageError(f"{name} is not an image that can be decoded; remove or replace it")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
