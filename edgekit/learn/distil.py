"""Distillation: a recipe -> a checkpoint. Each step leaves what an interrupted run goes on from."""

import copy
import dataclasses
import hashlib
import io
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

from edgekit import checkpoint
from edgekit.checkpoint import Card
from edgekit.errors import CheckpointError, InputError, SpecError
from edgekit.learn import data, teacher
from edgekit.learn import views as all_views
from edgekit.learn.data import Images
from edgekit.learn.evaluate import accuracy
from edgekit.learn.recipe import Recipe
from edgekit.learn.train import Lesson, Progress, train
from edgekit.learn.views import Views
from edgekit.lower.network import fold_batch_norm
from edgekit.plugins import architecture


class Watch(Protocol):
    """Whoever wants to know how far it is."""

    def step(self, task: str, done: int, total: int) -> None:
        """`done` of `total` steps of `task` are done."""

    def line(self, text: str) -> None:
        """Something worth a line in a log."""


def distil(recipe: Recipe, out: Path, watch: Watch) -> Path:
    """Make the recipe's checkpoint in the folder `out`; returns its path.

    The checkpoint is written after each epoch, with the accuracy that it has by then. What an
    interrupted run goes on from lies in `out/state`.

    Raises:
        InputError: data that is missing or of other classes; `out/state` of another run.
        SpecError, UnknownName, CheckpointError: a recipe or a teacher that does not fit.
        StorageError: `out` cannot be written.
    """
    folders = [spec.folder for spec in recipe.classes]
    module = build(recipe)
    images, held_out = (data.read(recipe.data, split, folders) for split in ("train", "val"))
    watch.line(f"{len(images.pixels)} images to learn from, {len(held_out.pixels)} to measure with")
    state = out / "state"
    _claim(state, recipe, images)
    height, width = images.pixels.shape[1:3]
    views = all_views.draw(len(images.pixels), height, width, recipe.views, recipe.seed)
    answers = _answers(recipe, images, held_out, views, state, watch)
    lesson = Lesson(images.pixels, views, answers, recipe.teacher.temperature, recipe.image)
    path = out / f"{recipe.name}.safetensors"

    def measure(average: nn.Module) -> float:
        return save(recipe, average, held_out, path)

    for number, schedule in enumerate(recipe.schedules):
        task = f"student, schedule {number + 1}/{len(recipe.schedules)}"
        module = train(
            *(module, lesson, schedule, recipe.seed + number, state / f"student{number}.pt"),
            _watcher(task, schedule.epochs, watch, measure),
        )
    watch.line(f"{path}: top-1 {measure(module):.4f} on {len(held_out.pixels)} images")
    return path


def build(recipe: Recipe) -> nn.Module:
    """The student with the random weights of the recipe's seed."""
    choice = recipe.model
    torch.manual_seed(recipe.seed)
    try:
        module: nn.Module = architecture(choice.architecture)(**choice.arguments)
    except TypeError as error:
        raise SpecError(
            f"architecture '{choice.architecture}' does not take {dict(choice.arguments)}: {error}"
        ) from error
    return module


def save(recipe: Recipe, module: nn.Module, held_out: Images, path: Path) -> float:
    """Fold batch norm, measure, write checkpoint and card; returns the top-1 accuracy."""
    folded = fold_batch_norm(copy.deepcopy(module))
    found = accuracy(folded, held_out, recipe.image)
    card = Card(
        schema=checkpoint.SCHEMA,
        architecture=recipe.model.architecture,
        arguments=recipe.model.arguments,
        image=recipe.image,
        labels=tuple(spec.label for spec in recipe.classes),
        sha256="",
        trained_on=recipe.trained_on,
        license=recipe.license,
        accuracy=found,
        accuracy_images=len(held_out.pixels),
        recipe=recipe.name,
        seed=recipe.seed,
        tools={"python": platform.python_version(), "torch": version("torch")},
    )
    tensors = {
        name: value.detach().contiguous().numpy() for name, value in folded.state_dict().items()
    }
    checkpoint.write(path, tensors, card)
    return found


def _claim(state: Path, recipe: Recipe, images: Images) -> None:
    """Mark `state` as this run's: go on only from what the same recipe and data have left."""
    # Where data and weights lie is no part of what they are.
    moved = dataclasses.replace(
        recipe, data=Path(), teacher=dataclasses.replace(recipe.teacher, weights=Path())
    )
    weights = checkpoint.resolve(str(recipe.teacher.weights))
    digest = hashlib.sha256(repr(moved).encode())
    digest.update(images.pixels.data)
    digest.update(checkpoint.digest(weights).encode())
    found = digest.hexdigest()
    mark = state / "run.txt"
    if mark.exists() and mark.read_text(encoding="utf-8") != found:
        raise InputError(
            f"{state} was left by another recipe, other data or another teacher; "
            "give another folder with -o, or remove it"
        )
    checkpoint.replace_files({mark: found.encode()})


def _answers(
    recipe: Recipe, images: Images, held_out: Images, views: Views, state: Path, watch: Watch
) -> np.ndarray:
    """The teacher's answers (N, K, classes); those of an interrupted run, if it came so far."""
    kept = state / "answers.npy"
    if kept.exists():
        return _read_answers(kept)

    size = recipe.teacher.size
    image = dataclasses.replace(recipe.image, height=size, width=size)

    def measure(average: nn.Module) -> float:
        return accuracy(average, held_out, image)

    epochs = recipe.teacher.schedule.epochs
    module = teacher.load(recipe)
    watch.line(f"teacher: top-1 {measure(module):.4f} before it is adapted")
    module = teacher.adapt(
        *(recipe, module, images, views, state / "teacher.pt"),
        _watcher("teacher", epochs, watch, measure),
    )
    ticks = _watcher("teacher labels the views", 1, watch, None)
    answers = teacher.label(recipe, module, images, views, ticks)
    content = io.BytesIO()
    np.save(content, answers)
    checkpoint.replace_files({kept: content.getvalue()})
    return answers


def _read_answers(path: Path) -> np.ndarray:
    try:
        answers: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CheckpointError(
            f"cannot go on from {path}: {error}; remove that file to ask the teacher again"
        ) from error
    return answers


def _watcher(
    task: str, epochs: int, watch: Watch, measure: Callable[[nn.Module], float] | None
) -> Callable[[Progress, nn.Module], None]:
    """Pass progress on; at the end of each epoch measure, and say so in a line."""

    def tell(progress: Progress, average: nn.Module) -> None:
        done = (progress.epoch - 1) * progress.steps + progress.step
        watch.step(task, done, epochs * progress.steps)
        if measure is not None and progress.step == progress.steps:
            watch.line(
                f"{task}: epoch {progress.epoch}/{epochs}, loss {progress.loss:.3f}, "
                f"top-1 {measure(average):.4f}"
            )

    return tell
