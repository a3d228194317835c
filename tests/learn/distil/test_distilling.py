"""A student that learns from teachers, from its recipe to its checkpoint."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit import checkpoint
from edgekit.errors import InputError, SpecError, UnknownName
from edgekit.learn import chain
from edgekit.learn.data.open import open_batches
from edgekit.learn.data.source import Data
from edgekit.learn.distil.objective import distilling
from edgekit.learn.recipe.data import Augment
from edgekit.learn.recipe.fit import Fit, Stage
from edgekit.learn.recipe.recipe import Recipe, seeded
from edgekit.learn.recipe.steps import Distill, Feature, ModelChoice, Teacher, TrainStep
from edgekit.learn.train.objective import Objective, Part
from edgekit.learn.train.place import HERE
from edgekit.learn.train.step import normalise
from edgekit.learn.work import Work
from tests.learn.conftest import Silent
from tests.targets.conftest import write_litert

Make = Callable[..., Recipe]
VIEWS = Augment(views=2, min_area=0.5, contrast=0.1)
FIT = Fit(learning_rate=0.05, epochs=8, batch=8, weight_decay=0.01)


def student(num_classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, num_classes),
    )  # fmt: skip


class Knows(nn.Module):
    """Answers by the mean colours, which are the classes; counts the images it is asked about."""

    asked = 0

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        Knows.asked += len(x)
        self.wide(x)
        return 4 * x.mean((2, 3))


def teacher() -> nn.Module:
    torch.manual_seed(9)
    return Knows()


WISE = Teacher(f"{__name__}:teacher", size=24)


@pytest.fixture
def make(make_recipe: Make) -> Make:
    """Makes a recipe of one step that distills into a small network; keys are of `Distill`."""

    def make(*teachers: Teacher, fit: Fit = FIT, augment: Augment = VIEWS, **keys: Any) -> Recipe:
        told = Distill(teachers or (WISE,), **keys)
        recipe = make_recipe(TrainStep("distill", "distill", fit, told), augment=augment)
        choice = ModelChoice(f"{__name__}:student")
        return dataclasses.replace(recipe, head=dataclasses.replace(recipe.head, model=choice))

    return make


def run(recipe: Recipe, out: Path) -> chain.Done:
    return chain.run(recipe, out, Silent(), recipe.steps)[0]


def weights(done: chain.Done) -> dict[str, np.ndarray]:
    return dict(checkpoint.read(done.path).tensors)


def test_it_learns_from_answers_alone(make: Make, tmp_path: Path) -> None:
    done = run(make(alpha=1.0, fit=dataclasses.replace(FIT, epochs=30)), tmp_path)
    assert (done.student.history[-1].accuracy or 0) > 0.9


def test_a_teacher_is_asked_once_about_each_view(make: Make, tmp_path: Path) -> None:
    Knows.asked = 0
    run(make(), tmp_path / "a" / "run")
    probes = Knows.asked - 24 * 2  # a dry run, and four images that tell logits
    assert 0 < probes <= 8
    shared = make(answers=str(tmp_path / "a" / "run" / "answers"))
    run(shared, tmp_path / "b")
    assert Knows.asked == 24 * 2 + 2 * probes
    assert len(list((tmp_path / "a" / "run" / "answers").iterdir())) == 1
    assert not (tmp_path / "b" / "answers").exists()


def test_other_seeds_share_answers_where_views_have_their_own(make: Make, tmp_path: Path) -> None:
    answers = tmp_path / "answers"
    for views, files in ((dataclasses.replace(VIEWS, seed=7), 1), (VIEWS, 3)):
        recipe = make(augment=views, answers=str(answers), fit=dataclasses.replace(FIT, epochs=1))
        done = [run(seeded(recipe, n), tmp_path / f"{views.seed}-{n}") for n in (1, 2)]
        assert len(list(answers.iterdir())) == files
        assert not np.array_equal(weights(done[0])["0.weight"], weights(done[1])["0.weight"])


def part_of(recipe: Recipe, data: Data, size: int = 24) -> Part:
    """The first batch of an epoch, as the loop makes it."""
    batches = open_batches(data.train, recipe.head.augment, 8, recipe.head.seed)
    batch = next(iter(batches.epoch(1, (size, size))))
    answers = nn.functional.one_hot(batch.targets, 3).float()
    return Part(normalise(batch.pixels, recipe.head.image), answers, batch.index, batch.view)


def objective_of(recipe: Recipe, data: Data, folder: Path, module: nn.Module) -> Objective:
    """What the recipe's one step teaches `module`, which is `before`, too."""
    step = recipe.steps[0]
    assert isinstance(step, TrainStep)
    assert step.distill is not None
    work = Work(recipe, data, HERE, Silent(), folder)
    return distilling(step.distill, work, module, module)


def test_stored_answers_are_those_given_live(make: Make, data: Data, tmp_path: Path) -> None:
    module = student(3).eval()
    losses = []
    for cache in (True, False):
        recipe = make(WISE, Teacher("before", weight=0.5), cache=cache, alpha=1.0)
        objective = objective_of(recipe, data, tmp_path / "step", module)
        losses.append(objective.loss(module, part_of(recipe, data)))
    assert losses[0] > 0.1
    torch.testing.assert_close(losses[0], losses[1], rtol=2e-3, atol=2e-3)


def test_progressive_sizes_and_several_teachers(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "mean.tflite"
    write_litert(file)
    fit = dataclasses.replace(FIT, epochs=0, stages=(Stage(2, 12), Stage(6, 24)))
    done = run(make(Teacher(str(file)), dataclasses.replace(WISE, weight=2), fit=fit), tmp_path)
    names = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "answers").iterdir())
    assert names == ["mean-12", "teacher-24"]
    assert done.student.history[-1].kind == "distill"


def test_mixed_images_are_asked_about_live(make: Make, tmp_path: Path) -> None:
    Knows.asked = 0
    mixed = Augment(min_area=0.5, mixup=0.4, cutmix=1.0)
    run(make(augment=mixed, cache=False, fit=dataclasses.replace(FIT, epochs=2)), tmp_path)
    assert Knows.asked >= 2 * 24
    assert not (tmp_path / "answers").exists()


LAYERS = (Feature("0", "wide", 0.5),)


@pytest.fixture
def featured(make: Make) -> Recipe:
    """Learns a layer of other channels and of another size."""
    return make(features=LAYERS, cache=False)


class Stops(Silent):
    """A watch that interrupts after so many steps."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._after = after

    def step(self, task: str, done: int, total: int, note: str = "") -> None:
        if done == self._after:
            raise KeyboardInterrupt


def test_what_learns_beside_is_gone_on_with_and_not_kept(featured: Recipe, tmp_path: Path) -> None:
    whole = run(featured, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        chain.run(featured, tmp_path / "again", Stops(after=10), featured.steps)
    state = torch.load(tmp_path / "again" / "1-distill" / "fit.state.pt", weights_only=True)
    assert [tuple(t.shape) for t in state["beside"].values()] == [(6, 4, 1, 1), (6,)]
    again = run(featured, tmp_path / "again")
    first, second = weights(whole), weights(again)
    assert first.keys() == second.keys() == student(3).state_dict().keys()
    for name, wanted in first.items():
        np.testing.assert_array_equal(second[name], wanted)


def test_features_learn_their_own_weights(featured: Recipe, data: Data, tmp_path: Path) -> None:
    module = student(3)
    objective = objective_of(featured, data, tmp_path / "step", module)
    assert isinstance(objective, nn.Module)
    assert [tuple(p.shape) for p in objective.parameters()] == [(6, 4, 1, 1), (6,)]
    objective.loss(module, part_of(featured, data)).backward()
    for parameter in (*objective.parameters(), *module.parameters()):
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_an_interrupted_run_wants_the_same_teacher(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "mean.tflite"
    write_litert(file)
    recipe = make(WISE, Teacher(str(file)))
    with pytest.raises(KeyboardInterrupt):
        chain.run(recipe, tmp_path / "run", Stops(after=10), recipe.steps)
    content = file.read_bytes()
    file.write_bytes(content + b" ")
    with pytest.raises(InputError, match="1-distill was left by a run whose teacher '.*tflite'"):
        run(recipe, tmp_path / "run")
    file.write_bytes(content)
    run(recipe, tmp_path / "run")


def test_a_layer_that_is_not_there_is_named(make: Make, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no layer of Sequential '7'"):
        run(make(features=(Feature("7", "wide"),), cache=False), tmp_path / "a")
    with pytest.raises(UnknownName, match="no layer of Knows 'wise'.*did you mean 'wide'"):
        run(make(features=(Feature("0", "wise"),), cache=False), tmp_path / "b")


def test_a_runtime_shows_no_layers(make: Make, tmp_path: Path) -> None:
    write_litert(tmp_path / "mean.tflite")
    wrong = make(Teacher(str(tmp_path / "mean.tflite")), features=LAYERS, cache=False)
    with pytest.raises(SpecError, match="shows its answers alone"):
        run(wrong, tmp_path)
