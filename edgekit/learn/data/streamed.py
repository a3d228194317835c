"""Batches of images in shards, read one part after the other: for what fits no memory.

An epoch's order is made of numbers alone, before anything is read: the images are cut into chunks
of neighbours, the chunks are shuffled, and so many of them as make up the buffer are shuffled
again, image by image. So any step's images are known, whatever was read before; a process reads its
own images alone; and a disk is asked for chunks, not for images here and there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import SupportsIndex, overload

import numpy as np

from edgekit.device.image import decode_image
from edgekit.learn.data.ahead import in_order
from edgekit.learn.data.batch import Batch
from edgekit.learn.data.deal import Deal, make_batch
from edgekit.learn.data.shards import Sharded
from edgekit.learn.data.source import Images

CHUNKS = 32
"""Of which a buffer is made up. More mix better, and ask the disk for smaller pieces."""


@dataclass(frozen=True, slots=True)
class Order:
    """The order of one epoch of `count` images, a window of `buffer` at a time."""

    count: int
    buffer: int
    seed: int
    epoch: int

    def windows(self, start: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """Place in the epoch, and image numbers (n,) int64, of each window.

        Those that end at or before the place `start` are passed over.
        """
        chunk = max(self.buffer // CHUNKS, 1)
        order = np.random.default_rng((self.seed, self.epoch)).permutation(-(-self.count // chunk))
        place = 0
        for window, first in enumerate(range(0, len(order), CHUNKS)):
            begins = order[first : first + CHUNKS] * chunk
            length = int(np.minimum(chunk, self.count - begins).sum())
            if place + length > start:
                numbers = (begins[:, None] + np.arange(chunk)).ravel()
                numbers = numbers[numbers < self.count]
                rng = np.random.default_rng((self.seed, self.epoch, window))
                yield place, rng.permutation(numbers)
            place += length


class Streamed:
    """The batches of one process; see `Batches`.

    Threads read and decode; memory holds two windows of this process's images, as they are stored,
    and the batches that are made ahead.
    """

    def __init__(self, images: Images, pixels: Sharded, deal: Deal, threads: int = 1) -> None:
        """Deal out `images`, whose pixels are `pixels`.

        Raises:
            InputError: a batch cannot be dealt out evenly, or there are fewer images.
        """
        deal.check(len(images))
        self._images, self._pixels, self._deal, self._threads = images, pixels, deal, threads

    @property
    def steps(self) -> int:
        return len(self._images) // self._deal.batch

    @property
    def images(self) -> int:
        return len(self._images)

    @property
    def fingerprint(self) -> str:
        return self._images.fingerprint

    def epoch(self, number: int, size: tuple[int, int], start: int = 0) -> Iterator[Batch]:
        deal = self._deal
        samples = self._samples(number, start)
        each = deal.batch // deal.world

        def make(given: tuple[int, list[tuple[int, bytes]]]) -> Batch:
            step, taken = given
            index = np.array([place for place, _ in taken], np.int64)
            pixels = _Taken(dict(taken), self._pixels)
            return make_batch(pixels, self._images.targets, index, number, step, size, deal)

        given = ((step, list(islice(samples, each))) for step in range(start, self.steps))
        return in_order(make, given, self._threads, self._threads + 1, "batches")

    def _samples(self, epoch: int, start: int) -> Iterator[tuple[int, bytes]]:
        """Number and bytes of this process's images from step `start` on, in the epoch's order."""
        deal = self._deal
        first, last = start * deal.batch, self.steps * deal.batch
        order = Order(len(self._images), self._pixels.buffer, deal.seed, epoch)

        def read(window: tuple[int, np.ndarray]) -> list[tuple[int, bytes]]:
            place, numbers = window
            places = np.arange(place, place + len(numbers))
            mine = deal.mine(places % deal.batch)
            mine &= (places >= first) & (places < last)
            chosen = numbers[mine]
            return list(zip(chosen.tolist(), self._pixels.encoded(chosen), strict=True))

        for window in in_order(read, order.windows(first), 1, 1, "shards"):
            window.reverse()
            while window:  # what was handed over is not kept
                yield window.pop()


class _Taken(Sequence[np.ndarray]):
    """The images of one batch by their numbers in the split; decoded when asked for."""

    def __init__(self, encoded: dict[int, bytes], pixels: Sharded) -> None:
        self._encoded, self._pixels = encoded, pixels

    def __len__(self) -> int:
        return len(self._pixels)

    @overload
    def __getitem__(self, index: SupportsIndex) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[np.ndarray]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> np.ndarray | Sequence[np.ndarray]:
        assert not isinstance(index, slice)
        number = int(index)
        return decode_image(self._encoded[number], self._pixels.name(number))
