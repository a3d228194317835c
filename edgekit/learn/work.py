"""What all steps of a recipe share, and what goes from one to the next."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from edgekit.checkpoint import Made, Range
from edgekit.learn.data.source import Data
from edgekit.learn.recipe.recipe import Recipe
from edgekit.learn.train.place import Place
from edgekit.learn.watch import Watch
from edgekit.spec import ImageSpec


@dataclass(frozen=True, slots=True)
class Work:
    """What a step works with."""

    recipe: Recipe
    data: Data
    place: Place
    watch: Watch
    folder: Path
    """The step's own: its state, its logs, its caches, its checkpoint."""

    @property
    def image(self) -> ImageSpec:
        return self.recipe.head.image

    @property
    def seed(self) -> int:
        return self.recipe.head.seed


@dataclass(frozen=True, slots=True)
class Student:
    """The network between two steps, and what its card has to say beside its weights."""

    module: nn.Module
    """In eval mode, on the CPU; batch norm not folded, but by QAT."""
    widths: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """See `checkpoint.Card`."""
    ranges: Mapping[str, Range] = field(default_factory=dict)
    """See `checkpoint.Card`."""
    keep_float: tuple[str, ...] = ()
    """See `checkpoint.Card`."""
    accuracy: float | None = None
    """Top-1 in [0, 1] of what is deployed, where that is not the module's: in int8. None: it is."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What a step measured, for the card."""
    history: tuple[Made, ...] = ()
    """Of the steps before."""
