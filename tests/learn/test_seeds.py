"""Several seeds of one recipe."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.errors import InputError
from edgekit.learn.recipe.recipe import Recipe
from edgekit.learn.recipe.steps import TrainStep
from edgekit.learn.seeds import Spread, repeat
from tests.learn.conftest import Silent


def test_mean_and_deviation_are_those_of_a_sample() -> None:
    spread = Spread("train", (0.5, 0.6, 0.7))
    assert spread.mean == pytest.approx(0.6)
    assert spread.deviation == pytest.approx(0.1)
    assert math.isnan(Spread("train", (0.5,)).deviation)


def test_seeds_are_runs_of_their_own_and_can_be_added_to(
    recipe: Recipe, watch: Silent, tmp_path: Path
) -> None:
    step = recipe.steps[0]
    assert isinstance(step, TrainStep)
    short = (replace(step, fit=replace(step.fit, epochs=1)),)
    one = repeat(recipe, 1, tmp_path, watch, short)
    two = repeat(recipe, 2, tmp_path, watch, short)
    assert two.seeds == (1, 2)
    assert two.last[0] == one.last[0] == tmp_path / "seed-1" / "1-train" / "small.safetensors"
    assert two.spreads[0].top1[0] == one.spreads[0].top1[0]
    assert two.last[0].read_bytes() != two.last[1].read_bytes()
    assert sum("epoch 1/1" in line for line in watch.lines) == 2


def test_no_seeds_are_refused(recipe: Recipe, watch: Silent, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 1"):
        repeat(recipe, 0, tmp_path, watch, recipe.steps)
