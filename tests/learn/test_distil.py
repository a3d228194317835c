"""A recipe becomes a checkpoint whose card tells the truth; a cut run goes on."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit import checkpoint
from edgekit.errors import CheckpointError, InputError, SpecError
from edgekit.learn import data
from edgekit.learn.distil import distil
from edgekit.learn.evaluate import accuracy
from edgekit.learn.recipe import ModelChoice, Recipe
from edgekit.lower.load import load_network

FIRST, SECOND = "student, schedule 1/2", "student, schedule 2/2"


class Notes:
    """A watcher that keeps what it is told, and can stop the run at a step."""

    def __init__(self, stop: tuple[str, int] | None = None):
        self.lines: list[str] = []
        self.steps: list[tuple[str, int, int]] = []
        self.stop = stop

    def step(self, task: str, done: int, total: int) -> None:
        self.steps.append((task, done, total))
        if (task, done) == self.stop:
            raise KeyboardInterrupt

    def line(self, text: str) -> None:
        self.lines.append(text)


def test_a_recipe_becomes_a_checkpoint(
    recipe: Recipe, tmp_path: Path, write_teacher: Callable[[], None]
) -> None:
    write_teacher()
    notes = Notes()
    path = distil(recipe, tmp_path / "out", notes)
    assert path == tmp_path / "out" / "small.safetensors"
    network = load_network(str(path))
    assert network.labels == ("red", "green", "blue")
    assert network.image == recipe.image
    held_out = data.read(recipe.data, "val", ["a", "b", "c"])
    card = checkpoint.read(path).card
    assert card is not None
    assert card.accuracy == accuracy(network.module, held_out, recipe.image)
    assert (card.accuracy_images, card.seed, card.recipe) == (12, 1, "small")
    assert "torch" in card.tools
    assert not any("running_mean" in name for name in checkpoint.read(path).tensors)
    assert notes.lines[0] == "24 images to learn from, 12 to measure with"
    assert notes.lines[-1].startswith(f"{path}: top-1 ")
    assert notes.steps[-1] == ("student, schedule 2/2", 2, 2)
    assert {task for task, _, _ in notes.steps} == {
        *("teacher", "teacher labels the views"),
        *("student, schedule 1/2", "student, schedule 2/2"),
    }


@pytest.mark.parametrize(
    "stop", [("teacher", 1), ("teacher labels the views", 1), (FIRST, 5), (SECOND, 1)]
)
def test_a_cut_run_goes_on_to_the_same_bytes(
    recipe: Recipe, tmp_path: Path, write_teacher: Callable[[], None], stop: tuple[str, int]
) -> None:
    write_teacher()
    whole = distil(recipe, tmp_path / "whole", Notes())
    with pytest.raises(KeyboardInterrupt):
        distil(recipe, tmp_path / "cut", Notes(stop))
    notes = Notes()
    resumed = distil(recipe, tmp_path / "cut", notes)
    assert resumed.read_bytes() == whole.read_bytes()
    assert (stop[0] in (FIRST, SECOND)) == (notes.steps[0][0] in (FIRST, SECOND))
    assert (stop[0] == SECOND) == (notes.steps[0][0] == SECOND)


def test_the_state_of_another_run_is_refused(
    recipe: Recipe, tmp_path: Path, write_teacher: Callable[[], None]
) -> None:
    write_teacher()
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        distil(recipe, out, Notes(("teacher", 1)))
    with pytest.raises(InputError, match="was left by another recipe, other data"):
        distil(dataclasses.replace(recipe, seed=2), out, Notes())
    moved = recipe.teacher.weights.rename(tmp_path / "moved.safetensors")
    teacher = dataclasses.replace(recipe.teacher, weights=moved)
    with pytest.raises(KeyboardInterrupt):  # the same files in another place are the same run
        distil(dataclasses.replace(recipe, teacher=teacher), out, Notes(("teacher", 1)))


def test_damaged_answers_are_named(
    recipe: Recipe, tmp_path: Path, write_teacher: Callable[[], None]
) -> None:
    write_teacher()
    with pytest.raises(KeyboardInterrupt):
        distil(recipe, tmp_path, Notes((FIRST, 1)))
    (tmp_path / "state" / "answers.npy").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match="cannot go on from .*answers.npy"):
        distil(recipe, tmp_path, Notes())


def test_mistakes_are_told_before_anything_is_written(
    recipe: Recipe, tmp_path: Path, write_teacher: Callable[[], None]
) -> None:
    out = tmp_path / "out"
    with pytest.raises(CheckpointError, match="no checkpoint at .*teacher.safetensors"):
        distil(recipe, out, Notes())
    write_teacher()
    choice = ModelChoice("mobilenet_v2", {"depth": 2})
    with pytest.raises(SpecError, match="'mobilenet_v2' does not take {'depth': 2}"):
        distil(dataclasses.replace(recipe, model=choice), out, Notes())
    with pytest.raises(InputError, match="cannot read the training data"):
        distil(dataclasses.replace(recipe, data=tmp_path / "no.zip"), out, Notes())
    assert not out.exists()
