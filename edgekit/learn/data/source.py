"""Labelled images: a folder, a zip or shards -> what is learned from and what is measured with."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.errors import InputError
from edgekit.learn.data.decode import load
from edgekit.learn.data.shards import Sharded, Shards
from edgekit.learn.data.split import Split, classes_of, look, number
from edgekit.learn.recipe.data import ClassSpec, DataSpec


@dataclass(frozen=True, slots=True)
class Images:
    """One split, in the order of the files' names.

    `pixels[i]` is (H, W, 3) uint8 RGB: of one array (N, H, W, 3) where all have one size and fit
    into memory, of a tuple where they fit, else decoded anew each time (`Encoded`).
    """

    pixels: np.ndarray | Sequence[np.ndarray]
    targets: np.ndarray
    """(N,) int64: the classes' numbers."""
    fingerprint: str
    """SHA-256 of the names, classes and bytes; lower-case hexadecimal."""

    def __len__(self) -> int:
        return len(self.targets)

    def spread(self, count: int) -> np.ndarray:
        """Numbers of `count` images, or of all if there are fewer, evenly spread over the classes.

        (n,) int64; class after class.
        """
        order = np.argsort(self.targets, kind="stable")
        places = np.linspace(0, len(order) - 1, min(count, len(order))).round()
        return order[places.astype(int)]


@dataclass(frozen=True, slots=True)
class Data:
    """What is learned from, what is measured with, and the classes of both."""

    train: Images
    validation: Images
    classes: tuple[ClassSpec, ...]


def read(spec: DataSpec, classes: tuple[ClassSpec, ...]) -> Data:
    """Find both splits and read them; training images in shards are indexed, and left there.

    Raises:
        InputError: the data is missing or damaged, has no images of a class, or images of others.
        ImageError: an image cannot be decoded.
    """
    train, validation = look(spec)
    classes = classes or classes_of(train)
    targets = number(train, classes, spec.subset)
    if spec.validation_share:
        measured = _held_out(train, targets, spec.validation_share, classes)
        right = np.where(measured, targets, -1)
        targets = np.where(measured, -1, targets)
    else:
        right = number(validation, classes, spec.subset)
    return Data(
        _images(train, _first(targets, spec.limit, len(classes)), spec, classes, stream=True),
        _images(validation, right, spec, classes, stream=False),
        classes,
    )


def _held_out(
    split: Split, targets: np.ndarray, share: float, classes: tuple[ClassSpec, ...]
) -> np.ndarray:
    """(N,) bool: the images of each class with the smallest draws, at least one."""
    held = np.zeros(len(targets), bool)
    for place, spec in enumerate(classes):
        members = np.flatnonzero(targets == place)
        count = max(round(share * len(members)), 1)
        if len(members) == 1:
            raise InputError(
                f"{split.where} has one image of '{spec.folder}': none can be held out; add "
                "images, or give validation images of their own as data.validation"
            )
        held[members[np.argsort(split.draws[members], kind="stable")[:count]]] = True
    return held


def _first(targets: np.ndarray, limit: int, classes: int) -> np.ndarray:
    """-1 for all but the first images of each class, `limit` in all; 0: all."""
    if not limit:
        return targets
    kept = np.full_like(targets, -1)
    for place in range(classes):
        members = np.flatnonzero(targets == place)[: -(-limit // classes)]
        kept[members] = place
    return kept


def _images(
    split: Split,
    targets: np.ndarray,
    spec: DataSpec,
    classes: tuple[ClassSpec, ...],
    stream: bool,
) -> Images:
    """The images whose target is not -1."""
    counts = np.bincount(targets[targets >= 0], minlength=len(classes))
    if not counts.all():
        empty = [one.folder for one, count in zip(classes, counts, strict=True) if not count]
        raise InputError(
            f"{split.where} has no images of '{empty[0]}' ({len(empty)} of {len(classes)} classes "
            "are empty); add images of it, or take it out of the class list"
        )
    numbers = np.flatnonzero(targets >= 0)
    targets = targets[numbers]
    if stream and isinstance(split.store, Shards):
        made = hashlib.sha256(split.store.digest.encode())
        made.update(numbers.astype("<i8").tobytes() + targets.astype("<i8").tobytes())
        return Images(Sharded(split.store, numbers, spec.buffer), targets, made.hexdigest())
    loaded = load(split.store, numbers, round(spec.memory * 2**30))
    made = hashlib.sha256()
    for place, target, digest in zip(numbers, targets, loaded.digests, strict=True):
        name = split.store.name(int(place)).rpartition(": ")[2]
        made.update(f"{name}\0{target}\0".encode() + digest)
    return Images(loaded.pixels, targets, made.hexdigest())
