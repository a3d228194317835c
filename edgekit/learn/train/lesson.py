"""What a run of the loop is given, whom it tells, and what it leaves."""

from dataclasses import dataclass
from typing import Protocol

from torch import nn

from edgekit.learn.data.batch import Batches
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.train.objective import Objective, Rules
from edgekit.spec import ImageSpec


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learned, and how."""

    batches: Batches
    classes: int
    image: ImageSpec
    """Its mean and deviation normalise; its size is that of an epoch without a size of its own."""
    how: Fit
    seed: int
    """Of dropout and drop-path. Order and views have the batches' own."""
    objective: Objective
    rules: Rules
    first: int = 0
    """Epoch (from 0) that the run begins with: its learning rate, its order of the images."""


@dataclass(frozen=True, slots=True)
class Point:
    """What one step came to."""

    done: int
    """Steps that are done, with this one, from the beginning of the run."""
    loss: float
    rate: float
    norm: float
    """Of the gradient, before it is clipped; with an fp16 overflow not a number."""


class Listener(Protocol):
    """Told how far a run is."""

    def begin(self, steps: int, done: int, rows: list[dict[str, float]]) -> None:
        """The run begins, or goes on: `done` steps are done, of `steps` an epoch."""

    def step(self, point: Point) -> None:
        """A step is done. On a GPU told some steps later."""

    def epoch(self, row: dict[str, float]) -> None:
        """An epoch is done: `epoch`, `loss`, `rate`, `top1`, `seconds`, `images_per_s`."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What training leaves."""

    module: nn.Module
    """The moving average, or the best one where training may stop early; in eval mode, on the
    CPU."""
    rows: tuple[dict[str, float], ...]
