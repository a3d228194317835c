"""The seam between data and training: batches, each a function of (seed, epoch, step) alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Mixing:
    """MixUp or CutMix of a batch with itself in another order.

    Image j becomes `share * image j + (1 - share) * image order[j]` (MixUp, where `box` is None),
    or takes the box (left, top, right, bottom; fractions of the image) of image order[j]; so do
    the answers wanted, by `share`.
    """

    order: Tensor
    """(B,) int64"""
    share: float
    box: tuple[float, float, float, float] | None

    def inputs(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W) -> the same, mixed."""
        other = inputs[self.order.to(inputs.device)]
        if self.box is None:
            return torch.lerp(other, inputs, self.share)
        height, width = inputs.shape[2:]
        left, top, right, bottom = (
            round(edge * side)
            for edge, side in zip(self.box, (width, height, width, height), strict=True)
        )
        mixed = inputs.clone()
        mixed[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
        return mixed

    def answers(self, answers: Tensor) -> Tensor:
        """(B, classes) -> the same, mixed."""
        return torch.lerp(answers[self.order.to(answers.device)], answers, self.share)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one process learns from in one step, in host memory."""

    pixels: Tensor
    """(B, H, W, 3) uint8 RGB, augmented."""
    targets: Tensor
    """(B,) int64: the right class."""
    index: Tensor
    """(B,) int64: which image of the split."""
    view: Tensor
    """(B,) int64: which view of it."""
    mixing: Mixing | None = None


class Batches(Protocol):
    """A split, augmented and dealt out to this process."""

    @property
    def steps(self) -> int:
        """Batches an epoch; the same in every process."""

    @property
    def images(self) -> int:
        """Images in the split."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the images, their order and classes; lower-case hexadecimal."""

    def epoch(self, number: int, size: tuple[int, int], start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number` (from 0) from step `start` on, images of (height, width).

        The same arguments give the same batches, in every process and at any time.
        """
