"""What dealing out batches has in common, wherever the images come from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from edgekit.errors import InputError
from edgekit.learn.data.augment import render
from edgekit.learn.data.batch import Batch, Mixing
from edgekit.learn.recipe.data import Augment


@dataclass(frozen=True, slots=True)
class Deal:
    """How images are dealt out: `batch` a step, over all `world` processes; this is `rank`."""

    augment: Augment
    batch: int
    seed: int
    rank: int = 0
    world: int = 1
    parts: int = 1
    """In which a step is computed, one after the other; each has images of all processes."""

    def mine(self, places: np.ndarray) -> np.ndarray:
        """Which of these places in a batch, from 0, are this process's: a run of each part."""
        each = self.batch // (self.world * self.parts)
        return places // each % self.world == self.rank

    def check(self, images: int) -> None:
        """Raise InputError if a step cannot be dealt out evenly, or there are too few images."""
        if self.batch % (self.world * self.parts) or self.batch > images:
            raise InputError(
                f"a batch of {self.batch} cannot be dealt out to {self.world} processes in "
                f"{self.parts} parts each from {images} images; give a multiple of "
                f"{self.world * self.parts} that is no larger than the images"
            )


def make_batch(
    pixels: np.ndarray | Sequence[np.ndarray],
    targets: np.ndarray,
    index: np.ndarray,
    epoch: int,
    step: int,
    size: tuple[int, int],
    deal: Deal,
) -> Batch:
    """The images `index` (B,) int64 as batch `step` of `epoch`, (height, width) each.

    `pixels` and `targets` are of the whole split; of `pixels` only `index` is asked for.
    """
    how = deal.augment
    view = (index + epoch) % how.views if how.views else np.full(len(index), epoch)
    return Batch(
        pixels=torch.from_numpy(render(pixels, index, view, size, how, how.seed or deal.seed)),
        targets=torch.from_numpy(targets[index]),
        index=torch.from_numpy(index),
        view=torch.from_numpy(view),
        mixing=mixing(deal, epoch, step, len(index), size),
    )


def mixing(deal: Deal, epoch: int, step: int, count: int, size: tuple[int, int]) -> Mixing | None:
    """MixUp or CutMix for `count` images of (height, width); None: neither is asked for.

    Neighbours are mixed with each other, and their order is random anyway: so it is the same in
    one process as in several whose shares are even.
    """
    how = deal.augment
    if not how.mixup and not how.cutmix:
        return None
    rng = np.random.default_rng((deal.seed, epoch, step))
    order = np.minimum(np.arange(count) ^ 1, count - 1)  # the last of an odd number: with itself
    neighbours = torch.from_numpy(order)
    if how.mixup and not (how.cutmix and rng.random() < 0.5):
        return Mixing(neighbours, float(rng.beta(how.mixup, how.mixup)), None)
    side = np.sqrt(1 - rng.beta(how.cutmix, how.cutmix))
    high, wide = (round(float(side) * length) for length in size)  # in whole pixels
    top, left = (
        int(rng.integers(length - part + 1))
        for length, part in zip(size, (high, wide), strict=True)
    )
    box = (left / size[1], top / size[0], (left + wide) / size[1], (top + high) / size[0])
    return Mixing(neighbours, 1 - high * wide / (size[0] * size[1]), box)
