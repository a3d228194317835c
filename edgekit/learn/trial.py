"""A recipe's first step tried out, before it is run: its learning rate, and one batch by heart."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from edgekit.errors import SpecError
from edgekit.learn.data import source
from edgekit.learn.first import first_network
from edgekit.learn.recipe.data import Augment
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.recipe.recipe import Recipe
from edgekit.learn.recipe.steps import Distill, TrainStep
from edgekit.learn.teach import lesson_of
from edgekit.learn.train.finder import Sweep, find_rate
from edgekit.learn.train.overfit import ByHeart, learn_by_heart
from edgekit.learn.train.place import Place
from edgekit.learn.watch import Watch
from edgekit.learn.work import Work

STILL = Augment(views=1, min_area=1.0, max_ratio=1.0, mirror=0.0)
"""No augmentation: each image is seen as it is."""


def find_learning_rate(recipe: Recipe, out: Path, watch: Watch, place: Place) -> Sweep:
    """Sweep the learning rate of the first step; nothing is written.

    Raises:
        SpecError: the first step does not train; no rate lowered the loss.
    """
    how, distill = _first(recipe)
    work, module = _begin(recipe, out, watch, place)
    return find_rate(module, lesson_of(module, how, distill, work, module), place, watch)


def overfit_one_batch(recipe: Recipe, out: Path, watch: Watch, place: Place) -> ByHeart:
    """Learn one batch by heart, by the labels, as the first step trains.

    Raises:
        SpecError: the first step does not train; the run went astray.
    """
    how, _ = _first(recipe)
    recipe = replace(recipe, head=replace(recipe.head, augment=STILL))
    work, module = _begin(recipe, out, watch, place)
    lesson = lesson_of(module, how, None, work, module)
    return learn_by_heart(module, lesson, place, out, watch)


def _begin(recipe: Recipe, out: Path, watch: Watch, place: Place) -> tuple[Work, nn.Module]:
    data = source.read(recipe.head.data, recipe.classes)
    return Work(recipe, data, place, watch, out), first_network(recipe, data)


def _first(recipe: Recipe) -> tuple[Fit, Distill | None]:
    step = recipe.steps[0]
    if not isinstance(step, TrainStep):
        raise SpecError(
            f"the first step of '{recipe.head.name}' is of kind '{step.kind}': only one that "
            "trains or distills can be tried out; give a recipe that begins with that, and "
            "--from CHECKPOINT for what it begins with"
        )
    return step.fit, step.distill
