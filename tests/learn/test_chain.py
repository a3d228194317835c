"""A recipe's steps, one after the other."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit import bundle, checkpoint
from edgekit.errors import CheckpointError, InputError
from edgekit.learn import chain
from edgekit.learn.ladder import ladder
from edgekit.learn.ladder_plot import draw
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.recipe.recipe import Recipe
from edgekit.learn.recipe.steps import BuildStep, Distill, Teacher, TrainStep
from tests.learn.conftest import Silent


def test_a_step_leaves_a_checkpoint_that_learned(
    recipe: Recipe, watch: Silent, tmp_path: Path
) -> None:
    done = chain.run(recipe, tmp_path, watch, recipe.steps)
    stored = checkpoint.read(tmp_path / "1-train" / "small.safetensors")
    assert stored.card is not None
    assert stored.card.accuracy == done[0].student.history[-1].accuracy
    assert stored.card.accuracy is not None
    assert stored.card.accuracy > 0.9
    assert [made.kind for made in stored.card.history] == ["train"]


def test_a_step_that_is_done_is_not_done_again(
    recipe: Recipe, watch: Silent, tmp_path: Path
) -> None:
    first = chain.run(recipe, tmp_path, watch, recipe.steps)[0]
    before = first.path.stat().st_mtime_ns
    again = chain.run(recipe, tmp_path, watch, recipe.steps)[0]
    assert first.path.stat().st_mtime_ns == before
    assert again.student.history == first.student.history


def test_an_interrupted_chain_goes_on_with_the_step_that_is_missing(
    make_recipe: Callable[..., Recipe], how: Fit, watch: Silent, tmp_path: Path
) -> None:
    short = replace(how, epochs=1, warmup_epochs=0)
    recipe = make_recipe(TrainStep("train", "first", short), TrainStep("train", "second", short))
    first = chain.run(recipe, tmp_path, watch, recipe.steps[:1])[0]
    both = chain.run(recipe, tmp_path, watch, recipe.steps)
    assert [made.step for made in both[1].student.history] == ["first", "second"]
    assert both[1].student.history[0] == first.student.history[0]
    assert both[1].student.history[0].sha256 == checkpoint.digest(first.path)
    whole = chain.run(recipe, tmp_path / "at once", watch, recipe.steps)
    assert checkpoint.digest(whole[1].path) == checkpoint.digest(both[1].path)


def test_a_folder_of_another_recipe_is_refused(
    make_recipe: Callable[..., Recipe], how: Fit, watch: Silent, tmp_path: Path
) -> None:
    for epochs in (1, 2):
        recipe = make_recipe(TrainStep("train", "train", replace(how, epochs=epochs)))
        if epochs == 1:
            chain.run(recipe, tmp_path, watch, recipe.steps)
        else:
            with pytest.raises(InputError, match="1-train was left by another recipe"):
                chain.run(recipe, tmp_path, watch, recipe.steps)


@pytest.mark.parametrize("harm", ["weights", "card", "no card"])
def test_a_damaged_checkpoint_of_a_step_is_refused(
    recipe: Recipe, how: Fit, watch: Silent, tmp_path: Path, harm: str
) -> None:
    path = chain.run(recipe, tmp_path, watch, recipe.steps)[0].path
    card = checkpoint.card_path(path)
    if harm == "weights":
        stored = bytearray(path.read_bytes())
        stored[-1] ^= 1
        path.write_bytes(stored)
    elif harm == "card":
        card.write_text(card.read_text().replace("sha256", "sha265"))
    else:
        card.unlink()
        assert chain.run(recipe, tmp_path, watch, recipe.steps)[0].path == path  # made anew
        return
    with pytest.raises(CheckpointError, match=r"damaged or was replaced|'sha256' is missing"):
        chain.run(recipe, tmp_path, watch, recipe.steps)


def test_a_verb_runs_up_to_its_last_step_and_the_builds_after_it(
    make_recipe: Callable[..., Recipe], how: Fit
) -> None:
    train, build = TrainStep("train", "train", how), BuildStep("build", "build")
    more = TrainStep("distill", "more", how, Distill((Teacher("before"),)))
    recipe = make_recipe(train, build, more)
    assert chain.upto(recipe, "train") == (train, build)
    assert chain.upto(recipe, "distill") == (train, build, more)
    with pytest.raises(InputError, match="no step of kind 'prune'; its steps are: train, build"):
        chain.upto(recipe, "prune")


@pytest.mark.slow
def test_the_ladder_measures_what_each_step_left(
    make_recipe: Callable[..., Recipe], how: Fit, watch: Silent, tmp_path: Path
) -> None:
    recipe = make_recipe(
        TrainStep("train", "first", how),
        TrainStep("train", "more", replace(how, learning_rate=0.001)),
        BuildStep("build", "pi", precision="fp32"),
    )
    done = chain.run(recipe, tmp_path, watch, recipe.steps)
    assert bundle.read(done[-1].path).manifest.precision == "fp32"
    found = ladder(recipe, tmp_path, "raspberry-pi", ["fp32"], 10, watch.line)
    assert [rung.step for rung in found.rungs] == ["first", "more"]
    for rung, step in zip(found.rungs, done, strict=False):
        assert rung.top1 == step.student.history[-1].accuracy
        assert rung.latency.p50_ms > 0
    draw(found, tmp_path / "ladder.png")
    assert (tmp_path / "ladder.png").read_bytes().startswith(b"\x89PNG")


def test_the_ladder_wants_the_steps_to_be_there(
    recipe: Recipe, watch: Silent, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="step 1 .'train'. has left no"):
        ladder(recipe, tmp_path, "raspberry-pi", ["fp32"], 10, watch.line)
