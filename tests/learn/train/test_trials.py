"""The learning-rate range test, and one batch by heart."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgekit.errors import SpecError
from edgekit.learn import trial
from edgekit.learn.recipe.recipe import Recipe
from edgekit.learn.recipe.steps import PruneStep, TrainStep
from edgekit.learn.train import overfit
from edgekit.learn.train.finder import find_rate, write
from edgekit.learn.train.lesson import Lesson
from edgekit.learn.train.overfit import ByHeart
from edgekit.learn.train.place import HERE
from tests.learn.conftest import Silent
from tests.learn.train.conftest import same, small_net


@pytest.mark.parametrize(("kind", "lowest", "highest"), [("sgd", 1e-3, 1), ("adamw", 1e-4, 0.3)])
def test_a_sweep_suggests_a_rate_and_changes_nothing(
    lesson: Callable[..., Lesson], tmp_path: Path, kind: str, lowest: float, highest: float
) -> None:
    module = small_net()
    before = copy.deepcopy(module)
    sweep = find_rate(module, lesson(optimizer=kind), HERE, Silent())
    assert same(module, before)
    assert lowest < sweep.suggestion < highest
    assert list(sweep.rates) == sorted(sweep.rates)
    table, picture = write(sweep, tmp_path)
    assert table.read_text().splitlines()[0] == "rate,loss"
    assert len(table.read_text().splitlines()) == 1 + len(sweep.rates)
    assert picture.read_bytes().startswith(b"<?xml")


def test_a_network_that_cannot_learn_gets_no_rate(lesson: Callable[..., Lesson]) -> None:
    module = small_net()
    with torch.no_grad():
        module[0].weight.zero_()  # type: ignore[operator]
        module[4].weight.zero_()  # type: ignore[operator]
    for part in (module[0], module[1]):
        part.requires_grad_(False)
    told = lesson()
    with pytest.raises(SpecError, match="no learning rate from"):
        find_rate(module, replace(told, how=replace(told.how, smoothing=0.999)), HERE, Silent())


@pytest.fixture
def fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overfit, "STEPS", 120)


@pytest.mark.usefixtures("fewer")
def test_a_batch_is_learned_by_heart(recipe: Recipe, tmp_path: Path) -> None:
    found = trial.overfit_one_batch(recipe, tmp_path, Silent(), HERE)
    assert found.passed
    assert "learned by heart" in found.meaning()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("fewer")
def test_a_hopeless_rate_learns_nothing_by_heart(
    make_recipe: Callable[..., Recipe], recipe: Recipe, tmp_path: Path
) -> None:
    step = recipe.steps[0]
    assert isinstance(step, TrainStep)
    slow = make_recipe(replace(step, fit=replace(step.fit, learning_rate=1e-9)))
    found = trial.overfit_one_batch(slow, tmp_path, Silent(), HERE)
    assert not found.passed
    assert "NOT learned by heart" in found.meaning()


def test_answers_that_differ_in_eval_mode_are_told_apart() -> None:
    assert "eval mode" in ByHeart(8, 200, 1.0, 0.01, 0.4).meaning()


def test_only_a_first_step_that_trains_is_tried_out(
    make_recipe: Callable[..., Recipe], recipe: Recipe, tmp_path: Path
) -> None:
    step = recipe.steps[0]
    assert isinstance(step, TrainStep)
    pruning = make_recipe(PruneStep("prune", "prune", "magnitude", step.fit, sparsity=0.5))
    with pytest.raises(SpecError, match="first step of 'small' is of kind 'prune'"):
        trial.find_learning_rate(pruning, tmp_path, Silent(), HERE)
