"""Encoded images -> pixels: all at once into memory, or each when it is asked for."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, SupportsIndex, overload

import numpy as np

from edgekit.device.image import decode_image
from edgekit.learn.data.ahead import in_order, threads_here

BLOCK = 64
"""Images that a thread takes at once: one alone is over sooner than it is handed over."""


class Store(Protocol):
    """Encoded images by number, from 0. Any thread may read."""

    def name(self, number: int) -> str:
        """As errors name it."""

    def read(self, number: int) -> bytes:
        """Its bytes. Raises InputError if they cannot be read."""


class Encoded(Sequence[np.ndarray]):
    """Images that are read and decoded anew each time they are asked for; holds none.

    Item i is (H, W, 3) uint8 RGB, new memory, or raises ImageError or InputError. A slice is a
    sequence of the same kind.
    """

    def __init__(self, store: Store, numbers: np.ndarray) -> None:
        """Image i is number `numbers[i]` of `store`."""
        self.store, self.numbers = store, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: SupportsIndex) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> "Encoded": ...
    def __getitem__(self, index: SupportsIndex | slice) -> "np.ndarray | Encoded":
        if isinstance(index, slice):
            return Encoded(self.store, self.numbers[index])
        number = int(self.numbers[index])
        return decode_image(self.store.read(number), self.store.name(number))


@dataclass(frozen=True, slots=True)
class Loaded:
    """Pixels, and what they were made of."""

    pixels: np.ndarray | Sequence[np.ndarray]
    digests: tuple[bytes, ...]
    """SHA-256 of each image as it is stored."""


def load(store: Store, numbers: np.ndarray, memory: int) -> Loaded:
    """Read each image once; keep them decoded if all fit into `memory` bytes.

    Returns:
        Pixels (N, H, W, 3) if all are of one size, else a tuple; `Encoded` if they do not fit.

    Raises:
        ImageError: an image cannot be decoded; those behind the limit are not tried.
        InputError: one cannot be read.
    """
    kept = _Kept(len(numbers), memory)
    digests = []

    def work(block: np.ndarray) -> list[tuple[bytes, np.ndarray | None]]:
        return [_read(store, int(number), not kept.is_full) for number in block]

    threads = 2 * threads_here()  # nothing else runs yet
    blocks = (numbers[start : start + BLOCK] for start in range(0, len(numbers), BLOCK))
    for block in in_order(work, blocks, threads, 2 * threads, "decode"):
        for digest, image in block:
            digests.append(digest)
            if image is not None:
                kept.add(image)
    return Loaded(Encoded(store, numbers) if kept.is_full else kept.pixels(), tuple(digests))


def _read(store: Store, number: int, wanted: bool) -> tuple[bytes, np.ndarray | None]:
    encoded = store.read(number)
    image = decode_image(encoded, store.name(number)) if wanted else None
    return hashlib.sha256(encoded).digest(), image


class _Kept:
    """Decoded images: rows of one array as long as they have one shape, then an array each."""

    def __init__(self, count: int, memory: int) -> None:
        self._count, self._memory, self._used = count, memory, 0
        self._rows: np.ndarray | None = None
        self._done = 0
        self._images: list[np.ndarray] = []
        self.is_full = False
        """More than fits was added, and all is dropped."""

    def add(self, image: np.ndarray) -> None:
        self._used += image.nbytes
        if self.is_full or self._used > self._memory:
            self.is_full, self._images, self._rows = True, [], None
            return
        if self._used == image.nbytes and self._count * image.nbytes <= self._memory:
            self._rows = np.empty((self._count, *image.shape), np.uint8)
        if self._rows is not None and image.shape == self._rows.shape[1:]:
            self._rows[self._done] = image
            self._done += 1
            return
        if self._rows is not None:  # one of another shape: each gets memory of its own
            self._images, self._rows = [row.copy() for row in self._rows[: self._done]], None
        self._images.append(image)

    def pixels(self) -> np.ndarray | Sequence[np.ndarray]:
        """All of them; those that were not of one size, as a tuple."""
        assert not self.is_full
        return tuple(self._images) if self._rows is None else self._rows
