"""The teacher keeps the outputs of our classes, learns them, and labels views."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.errors import CheckpointError, SpecError, UnknownName
from edgekit.learn import teacher
from edgekit.learn.data import Images
from edgekit.learn.recipe import ModelChoice, Recipe
from edgekit.learn.train import Progress
from edgekit.learn.views import draw


def silent(progress: Progress, average: nn.Module) -> None:
    pass


def test_only_the_classes_outputs_are_kept(
    recipe: Recipe, write_teacher: Callable[[], None]
) -> None:
    write_teacher()
    every = dataclasses.replace(
        recipe,
        classes=tuple(dataclasses.replace(recipe.classes[0], teacher=i) for i in range(5)),
    )
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        whole, ours = teacher.load(every)(x), teacher.load(recipe)(x)
    torch.testing.assert_close(ours, whole[:, [4, 0, 2]])


def test_an_output_that_is_not_there_is_named(
    recipe: Recipe, write_teacher: Callable[[], None]
) -> None:
    write_teacher()
    wrong = dataclasses.replace(recipe.classes[0], teacher=5)
    with pytest.raises(SpecError, match="names output 5, but .* has 5, counted from 0"):
        teacher.load(dataclasses.replace(recipe, classes=(wrong, *recipe.classes[1:])))


def _other(recipe: Recipe, architecture: str, **arguments: int | float | str | bool) -> Recipe:
    choice = ModelChoice(architecture, arguments)
    return dataclasses.replace(recipe, teacher=dataclasses.replace(recipe.teacher, model=choice))


def test_weights_that_are_missing_or_do_not_fit_are_named(
    recipe: Recipe, write_teacher: Callable[[], None]
) -> None:
    with pytest.raises(CheckpointError, match="cannot read the checkpoint .*teacher.safetensors"):
        teacher.load(recipe)
    write_teacher()
    with pytest.raises(CheckpointError, match="tensor 'features.0.0.weight' is"):
        teacher.load(_other(recipe, "mobilenet_v2", num_classes=5, width_mult=1.0))
    with pytest.raises(UnknownName, match="did you mean 'mobilenet_v2'"):
        teacher.load(_other(recipe, "mobilenetv2"))


def test_labels_are_softened_and_mixed_with_the_truth(recipe: Recipe, images: Images) -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.log(torch.tensor([[16.0, 4.0, 1.0]])).expand(len(x), 3)

    views = draw(24, 16, 16, recipe.views, 0)
    found = teacher.label(recipe, Fixed(), images, views, silent, batch=7)
    assert found.shape == (24, 3, 3)
    soft = np.array([4, 2, 1]) / 7  # temperature 2 is a square root
    wanted = 0.8 * soft + 0.2 * np.eye(3)[images.targets][:, None]
    np.testing.assert_allclose(found, np.broadcast_to(wanted, found.shape), atol=1e-3)


def test_no_epochs_leave_the_teacher_as_it_is(
    recipe: Recipe, images: Images, write_teacher: Callable[[], None]
) -> None:
    write_teacher()
    schedule = dataclasses.replace(recipe.teacher.schedule, stages=(), warmup_epochs=0.0)
    still = dataclasses.replace(
        recipe, teacher=dataclasses.replace(recipe.teacher, schedule=schedule)
    )
    module = teacher.load(still)
    views = draw(24, 16, 16, recipe.views, 0)
    kept = teacher.adapt(
        still, module, images, views, recipe.teacher.weights.with_name("t"), silent
    )
    for name, wanted in teacher.load(still).state_dict().items():
        assert torch.equal(kept.state_dict()[name], wanted)
