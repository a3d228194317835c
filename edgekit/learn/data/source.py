"""Labelled images, decoded, in memory: a folder or a zip of `<split>/<class folder>/.../*.jpg`."""

import hashlib
import io
import lzma
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from edgekit.errors import ImageError, InputError
from edgekit.learn.recipe.data import ClassSpec, DataSpec

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@dataclass(frozen=True, slots=True)
class Images:
    """One split. `pixels[i]` (H, W, 3) uint8 RGB, `targets` (N,) int64, in the order of names."""

    pixels: np.ndarray | tuple[np.ndarray, ...]
    targets: np.ndarray
    fingerprint: str
    """SHA-256 of the names, classes and pixels."""

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, slots=True)
class Data:
    """What is learned from, what is measured with, and the classes of both."""

    train: Images
    validation: Images
    classes: tuple[ClassSpec, ...]


def read(spec: DataSpec, classes: tuple[ClassSpec, ...]) -> Data:
    """Read both splits.

    Raises:
        InputError: the data is missing, or has no images of a class.
        ImageError: an image cannot be decoded.
    """
    files = {split: list(_files(spec.path, split)) for split in (spec.train, spec.validation)}
    if not classes:
        folders = sorted({PurePosixPath(name).parts[1] for name, _ in files[spec.train]})
        classes = tuple(ClassSpec(folder, folder) for folder in folders)
    train, validation = (
        _images(spec.path, split, files[split], classes, limit)
        for split, limit in ((spec.train, spec.limit), (spec.validation, 0))
    )
    return Data(train, validation, classes)


def _images(
    path: Path,
    split: str,
    files: list[tuple[str, bytes]],
    classes: tuple[ClassSpec, ...],
    limit: int,
) -> Images:
    numbers = {spec.folder: number for number, spec in enumerate(classes)}
    most = -(-limit // len(classes)) if limit else len(files)
    counts = dict.fromkeys(numbers, 0)
    pixels, targets, digest = [], [], hashlib.sha256()
    for name, encoded in files:
        folder = PurePosixPath(name).parts[1]
        if folder in numbers and counts[folder] < most:
            counts[folder] += 1
            pixels.append(_decode(encoded, f"{path}: {name}"))
            targets.append(numbers[folder])
            digest.update(f"{name}\0{numbers[folder]}\0{pixels[-1].shape}\0".encode())
            digest.update(pixels[-1].data)
    absent = [folder for folder, count in counts.items() if not count]
    if absent or not counts:
        raise InputError(
            f"{path} has no images under {split}/{(absent or ['<class>'])[0]}/ ({len(absent)} of "
            f"{len(classes)} classes are empty); expected {split}/<class folder>/*.jpg or .png"
        )
    same = len({image.shape for image in pixels}) == 1
    return Images(
        np.stack(pixels) if same else tuple(pixels), np.array(targets, np.int64), digest.hexdigest()
    )


def _files(path: Path, split: str) -> Iterator[tuple[str, bytes]]:
    """Names, relative and with forward slashes, and bytes of the images of one split, sorted."""
    if path.is_dir():
        for file in sorted((path / split).rglob("*")):
            if file.suffix.lower() in SUFFIXES:
                yield file.relative_to(path).as_posix(), file.read_bytes()
        return
    try:
        with _archive(path) as archive:
            for name in sorted(archive.namelist()):
                if name.startswith(f"{split}/") and name.lower().endswith(SUFFIXES):
                    yield name, archive.read(name)
    except (OSError, zipfile.BadZipFile, lzma.LZMAError) as error:
        raise InputError(
            f"cannot read the training data {path}: {error}; expected a folder, a .zip or a "
            f".zip.xz with {split}/<class folder>/*.jpg, named by --data"
        ) from error


def _archive(path: Path) -> zipfile.ZipFile:
    if path.suffix == ".xz":
        with lzma.open(path) as file:
            return zipfile.ZipFile(io.BytesIO(file.read()))
    return zipfile.ZipFile(path)


def _decode(encoded: bytes, name: str) -> np.ndarray:
    stored = np.frombuffer(encoded, np.uint8)
    image = cv2.imdecode(stored, cv2.IMREAD_COLOR) if stored.size else None
    if image is None:
        raise ImageError(f"{name} is not an image that can be decoded; remove or replace it")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
