"""A recipe whole."""

import dataclasses
from dataclasses import dataclass, field

from edgekit.learn.recipe.data import Augment, ClassSpec, DataSpec
from edgekit.learn.recipe.steps import ModelChoice, Step
from edgekit.spec import ImageSpec


@dataclass(frozen=True, slots=True)
class Head:
    """All of a recipe but its steps."""

    name: str
    """Of the checkpoint."""
    seed: int
    trained_on: str
    """For the card, for people: the data and its terms."""
    license: str
    data: DataSpec
    model: ModelChoice
    image: ImageSpec
    """The evaluation transform: what the device does."""
    augment: Augment = field(default_factory=Augment)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a checkpoint is made, step by step."""

    head: Head
    classes: tuple[ClassSpec, ...]
    """In the order of the network's outputs; empty: the folders of the data."""
    steps: tuple[Step, ...]
    text: str
    """The file as it was written, for the card."""


def seeded(recipe: Recipe, seed: int) -> Recipe:
    """The same recipe with another seed."""
    return dataclasses.replace(recipe, head=dataclasses.replace(recipe.head, seed=seed))
