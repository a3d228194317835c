"""A split as it lies on the disk: which images, of which classes; none of them is read yet."""

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from edgekit.errors import InputError
from edgekit.learn.data.augment import uniform
from edgekit.learn.data.decode import Store
from edgekit.learn.data.files import EXPECTED, Files, open_files
from edgekit.learn.data.shards import Shards, find
from edgekit.learn.recipe.data import ClassSpec, DataSpec


@dataclass(frozen=True, slots=True)
class Split:
    """One split."""

    store: Store
    names: tuple[str, ...]
    """What the labels say: class folders, or numbers; sorted."""
    labels: np.ndarray
    """(N,) int64: into `names`, of each image of `store`."""
    draws: np.ndarray
    """(N,) float64 in [0, 1): a random number of each image's own, the same in every run."""
    numbered: bool
    """The labels are the classes' numbers."""
    where: str
    """As errors name it."""


def look(spec: DataSpec) -> tuple[Split, Split]:
    """Find the images of both splits, in shards or in class folders.

    With `validation_share` both are the training split.

    Raises:
        InputError: there is no such split, or its images are not in folders, one for each class.
    """
    wanted = (spec.train, spec.train if spec.validation_share else spec.validation)
    tops = {split: "" if split == "." else split.strip("/") for split in wanted}
    files: Files | None = None
    found = {}
    for split, top in tops.items():
        if shards := find(spec.path, top) if top else []:
            found[split] = _sharded(shards, split)
        else:
            files = files or open_files(spec.path, tops.values())
            found[split] = _folders(files, spec, split, top)
    train, validation = (found[split] for split in wanted)
    return train, validation


def _sharded(shards: list[Path], split: str) -> Split:
    store = Shards(shards)
    numbers = [name.isdecimal() for name in store.classes]
    if any(numbers) and not all(numbers):
        one, other = store.classes[numbers.index(True)], store.classes[numbers.index(False)]
        raise InputError(
            f"some labels in the shards of '{split}' are numbers ('{one}'), others names "
            f"('{other}'); use either, in all shards"
        )
    zeros = np.zeros(len(store), np.int64)
    draws = uniform(0, np.arange(len(store)), zeros, 0)
    where = f"the shards {shards[0].parent}/{shards[0].name} ..."
    return Split(store, store.classes, store.labels, draws, all(numbers), where)


class _Named:
    """A split's files as a `Store`."""

    def __init__(self, files: Files, names: list[str]) -> None:
        self._files, self._names = files, names

    def name(self, number: int) -> str:
        return f"{self._files.path}: {self._names[number]}"

    def read(self, number: int) -> bytes:
        return self._files.read(self._names[number])


def _folders(files: Files, spec: DataSpec, split: str, top: str) -> Split:
    names = files.names(top)
    if not names:
        raise InputError(_absent(files, spec, split))
    depth = len(PurePosixPath(top).parts)
    parts = [PurePosixPath(name).parts for name in names]
    loose = next(
        (name for name, part in zip(names, parts, strict=True) if len(part) < depth + 2), ""
    )
    if loose:
        raise InputError(
            f"{spec.path} has {loose} beside the class folders; every image lies in the folder of "
            f"its class: {EXPECTED}"
        )
    folders = [part[depth] for part in parts]
    classes, labels = np.unique(np.array(folders, np.str_), return_inverse=True)
    hashes = b"".join(hashlib.sha256(name.encode()).digest()[:8] for name in names)
    draws = (np.frombuffer(hashes, "<u8") >> np.uint64(11)) * 2.0**-53
    where = f"{spec.path}" + (f", split '{split}'" if top else "")
    return Split(_Named(files, names), tuple(map(str, classes)), labels, draws, False, where)


def _absent(files: Files, spec: DataSpec, split: str) -> str:
    there = files.splits()
    key = "train" if split == spec.train else "validation"
    hint = (
        "; or hold out a share of the training images with data.validation_share = 0.1"
        if key == "validation"
        else "; class folders at the top are the split '.'"
    )
    return (
        f"{spec.path} has no images in the split '{split}'; expected {EXPECTED}, and the folders "
        f"there are: {', '.join(there[:10]) or 'none'}{' ...' if len(there) > 10 else ''}. Name "
        f"the right one as data.{key}{hint}"
    )


def number(split: Split, classes: tuple[ClassSpec, ...], subset: bool) -> np.ndarray:
    """The class's number of each image, (N,) int64; -1: of a class that is left out.

    Raises:
        InputError: a label that `classes` does not have, unless they are a `subset` of the data's.
    """
    if split.numbered:
        table = np.array([int(name) for name in split.names], np.int64)
        table[table >= len(classes)] = -1
    else:
        known = {spec.folder: place for place, spec in enumerate(classes)}
        table = np.array([known.get(name, -1) for name in split.names], np.int64)
    strange = [name for name, place in zip(split.names, table, strict=True) if place < 0]
    if strange and not subset:
        what = "label" if isinstance(split.store, Shards) else "folder"
        raise InputError(
            f"{split.where} has the {what} '{strange[0]}' ({len(strange)} such in all), which is "
            f"none of the {len(classes)} classes; add it to the class list, take it out of the "
            "data, or leave such images out with data.subset = true"
        )
    found: np.ndarray = table[split.labels]
    return found


def classes_of(split: Split) -> tuple[ClassSpec, ...]:
    """The classes by what the data says alone."""
    names = split.names
    if split.numbered:
        names = tuple(map(str, range(max(map(int, names)) + 1)))
    return tuple(ClassSpec(name, name) for name in names)
