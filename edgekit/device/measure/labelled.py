"""Labelled images: a folder, and which class each image shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.device.image import list_images
from edgekit.errors import InputError


@dataclass(frozen=True, slots=True)
class Labelled:
    """Images, in the order in which they are run."""

    paths: tuple[Path, ...]
    classes: tuple[int, ...] | None
    """Index of each image's class, in the order of the logits; None: nobody says."""


def find(folder: Path, labels: Path | None, names: Sequence[str]) -> Labelled:
    """The images in `folder`, with their classes if a file or the folders in it tell them.

    Args:
        folder: of images, or of one folder a class.
        labels: lines of a path inside `folder` and an index, `photo.jpg 17`; images that it does
            not name are left out.
        names: the classes' labels, in the order of the logits.

    Raises:
        InputError: a line that is none, an index that is no class, an image that is not there.
        ImageError: no such folder, or no image in it.
    """
    paths = list_images(folder)
    if labels is not None:
        return _from_file(folder, labels, len(names))
    found = {path: path.relative_to(folder).parts for path in paths}
    kinds = sorted({parts[0] for parts in found.values() if len(parts) > 1})
    if not kinds or any(len(parts) == 1 for parts in found.values()):
        return Labelled(paths, None)
    numbers = _numbers(kinds, names, folder)
    return Labelled(paths, tuple(numbers[found[path][0]] for path in paths))


def _from_file(folder: Path, labels: Path, classes: int) -> Labelled:
    try:
        lines = labels.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the labels {labels}: {error}") from error
    pairs = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, index = line.rstrip().rpartition(" ")
        if not name or not index.isdecimal() or int(index) >= classes:
            raise InputError(
                f"{labels}, line {number}: {line[:80]!r} is not a file's name and the index of its "
                f"class, 0 to {classes - 1}, as in 'photo.jpg 17'"
            )
        path = folder / name.strip()
        if not path.is_file():
            raise InputError(f"{labels}, line {number}: there is no {path}")
        pairs.append((path, int(index)))
    if not pairs:
        raise InputError(f"{labels} names no image; a line is as 'photo.jpg 17'")
    return Labelled(tuple(p for p, _ in pairs), tuple(index for _, index in pairs))


def _numbers(kinds: Sequence[str], names: Sequence[str], folder: Path) -> dict[str, int]:
    """Folder name -> class: by its label, by its number, or by its place among as many as classes.

    Raises:
        InputError: none of the three fits.
    """
    if set(kinds) <= set(names) and len(set(names)) == len(names):
        return {kind: list(names).index(kind) for kind in kinds}
    if all(kind.isdecimal() and int(kind) < len(names) for kind in kinds):
        return {kind: int(kind) for kind in kinds}
    if len(kinds) == len(names):
        return {kind: place for place, kind in enumerate(kinds)}
    raise InputError(
        f"the folders in {folder} are no classes: there are {len(kinds)} ({', '.join(kinds[:3])} "
        f"...) and the model has {len(names)} ({', '.join(names[:3])} ...); name them by label or "
        "by index, or give --labels FILE with a line 'path index' for each image"
    )
