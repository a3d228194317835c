"""Looks at losses and gradients: a run that went astray ends, where it did so.

To read a number from a GPU waits for the GPU, so there they are read some at a time; on a CPU each
one, before the weights change.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgekit.learn.train.lesson import Point
from edgekit.learn.train.state import State

EARLY = 20
"""Steps whose mean loss is the loss that a run starts with."""
FAR = 3.0
"""A loss of so many times the start's, or of so many times what guessing costs, is far off ..."""
LONG = 100
"""... and so many such steps in a row are a divergence. One far loss is a bad batch or a warm-up
that was too quick; training comes back from it within some steps, or not at all."""
AT_ONCE = 16
"""Steps whose numbers are read at once from a GPU."""


class Unsound(Exception):
    """A run went astray in the step of this point; `diverged`: all numbers are finite."""

    def __init__(self, point: Point, diverged: bool) -> None:
        super().__init__(point)
        self.point, self.diverged = point, diverged


@dataclass(frozen=True, slots=True)
class _Unread:
    done: int
    rate: float
    numbers: Tensor
    """(2,): loss and gradient norm."""


class Look:
    """Takes each step's numbers as tensors, and gives them back as points."""

    def __init__(self, now: State, classes: int, at_once: int, first: int = 0) -> None:
        """Keep the run's sums in `now`.

        Args:
            now: its `total`, `early` and `astray` are kept.
            classes: that there are to guess from.
            at_once: steps that are read together.
            first: steps that count as done when the run begins.
        """
        self._now, self._at_once, self._early = now, at_once, first + EARLY
        self._guessing = math.log(classes)
        self._unread: list[_Unread] = []

    @property
    def exact(self) -> bool:
        """Whether each step is looked at before the weights change."""
        return self._at_once == 1

    def at(self, loss: Tensor, rate: float, norm: Tensor, done: int) -> list[Point]:
        """Take the numbers of step `done` (from 1); the points that are due.

        Raises:
            Unsound: a loss is not finite, or a gradient that no scaler watches; or the losses of
                the last steps were all far above the start's.
        """
        self._unread.append(_Unread(done, rate, torch.stack((loss.float(), norm.float()))))
        return self.rest() if len(self._unread) >= self._at_once else []

    def rest(self) -> list[Point]:
        """All points that were not given back yet. Raises Unsound, as `at`."""
        if not self._unread:
            return []
        numbers = torch.stack([unread.numbers for unread in self._unread]).tolist()
        points = [
            Point(unread.done, loss, unread.rate, norm)
            for unread, (loss, norm) in zip(self._unread, numbers, strict=True)
        ]
        self._unread.clear()
        for point in points:
            self._judge(point)
        return points

    def _judge(self, point: Point) -> None:
        now = self._now
        sound = math.isfinite(point.norm) or now.scaler.is_enabled()
        if not (math.isfinite(point.loss) and sound):
            raise Unsound(point, diverged=False)
        now.total += point.loss
        if point.done <= self._early:
            now.early += point.loss / EARLY
        elif point.loss > FAR * max(now.early, self._guessing):
            now.astray += 1
        else:
            now.astray = 0
        if now.astray >= LONG:
            raise Unsound(point, diverged=True)


@torch.no_grad()
def is_finite(module: nn.Module) -> bool:
    """Whether all weights are numbers."""
    norms = torch._foreach_norm([p for p in module.parameters() if p.is_floating_point()])
    return bool(torch.isfinite(torch.stack(norms)).all())
