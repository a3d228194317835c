"""A recipe as the command line changes it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.errors import InputError, SpecError, UnknownName
from edgekit.learn.recipe.changed import Changes, changed, with_epochs
from edgekit.learn.recipe.fit import Fit, Stage
from edgekit.learn.recipe.recipe import Recipe
from edgekit.learn.recipe.steps import BuildStep, PruneStep


def test_nothing_said_changes_nothing(recipe: Recipe) -> None:
    assert changed(recipe, Changes()) == recipe


def test_another_model_gets_the_arguments_that_it_has(recipe: Recipe) -> None:
    found = changed(recipe, Changes(model="shufflenet_v2_x0_5", arguments={"dropout": 0.3}))
    assert found.head.name == "small-shufflenet_v2_x0_5"
    assert found.head.model.architecture == "shufflenet_v2_x0_5"
    assert found.head.model.arguments == {"stem_stride": 1, "dropout": 0.3}
    assert found.text.endswith("# --model shufflenet_v2_x0_5\n# --argument dropout=0.3\n")


def test_a_user_s_network_gets_its_own_arguments_alone(recipe: Recipe) -> None:
    found = changed(recipe, Changes(model="mine.net:Small", arguments={"depth": 2}))
    assert found.head.name == "small-Small"
    assert found.head.model.arguments == {"depth": 2}


def test_data_seed_and_weights_are_taken(recipe: Recipe) -> None:
    found = changed(recipe, Changes(data=Path("there"), weights="teacher", seed=0))
    assert found.head.data == replace(recipe.head.data, path=Path("there"))
    assert (found.head.seed, found.head.model.weights) == (0, "teacher")
    assert "there" not in found.text  # where images lie is no part of how it came about


def test_epochs_keep_the_shares_of_all_that_counts_in_epochs() -> None:
    fit = Fit(0.1, stages=(Stage(10, 32), Stage(20, 48), Stage(10, 64)), warmup_epochs=4)
    found = with_epochs(fit, 8)
    assert found.stages == (Stage(2, 32), Stage(4, 48), Stage(2, 64))
    assert found.total_epochs == 8
    assert found.warmup_epochs == pytest.approx(0.8)
    assert with_epochs(fit, 3).total_epochs == 3


def test_each_step_gets_so_many_epochs(make_recipe: Callable[..., Recipe], how: Fit) -> None:
    prune = PruneStep("prune", "p", "lottery", how, sparsity=0.5, rounds=2, rewind_epoch=10)
    found = changed(make_recipe(prune, BuildStep("build", "b")), Changes(epochs=3))
    assert isinstance(found.steps[0], PruneStep)
    assert found.steps[0].fit.epochs == 3
    assert found.steps[0].rewind_epoch == 1
    assert found.steps[1] == BuildStep("build", "b")


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        (Changes(model="mobilenet_v9"), UnknownName, "mobilenet_v9"),
        (Changes(epochs=-1), InputError, "at least 1"),
        (Changes(seed=-1), SpecError, "seed"),
    ],
)
def test_what_makes_no_sense_is_refused(
    recipe: Recipe, changes: Changes, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        changed(recipe, changes)
