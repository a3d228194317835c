"""A recipe's steps, one after the other."""

from pathlib import Path

from edgekit import checkpoint
from edgekit.learn import chain
from edgekit.learn.recipe.recipe import Recipe
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
