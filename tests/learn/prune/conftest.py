"""Short runs of pruning."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekit.learn import teach
from edgekit.learn.data.source import Data
from edgekit.learn.first import first_network
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.recipe.recipe import Recipe
from edgekit.learn.recipe.steps import ModelChoice, PruneStep
from edgekit.learn.train.place import HERE
from edgekit.learn.work import Student, Work
from tests.learn.conftest import Silent

SHORT = Fit(
    learning_rate=0.01,
    epochs=2,
    batch=8,
    weight_decay=0.01,
    average_decay=0.9,
    save_every_s=0,
)
"""Two epochs of three steps, saved after each."""


class Killed(Exception):
    """What ends a run without a word, as `kill -9` does."""


class Fatal(Silent):
    """A watch that ends the run at its step number `at`, from 1; never: 0."""

    def __init__(self, at: int = 0) -> None:
        super().__init__()
        self.at, self.count = at, 0

    def step(self, task: str, done: int, total: int, note: str = "") -> None:
        self.count += 1
        if self.count == self.at:
            raise Killed


def tiny(num_classes: int = 3) -> nn.Module:
    """(N, 3, H, W) -> (N, num_classes): a convolution, a depthwise separable one, a classifier."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, 2, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 30, 1, bias=False), nn.BatchNorm2d(30), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(30, num_classes)),
    )


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no plots: half a second for each of many runs."""
    monkeypatch.setattr(teach, "draw", lambda log, title, steps: None)


Make = Callable[..., tuple[PruneStep, Student, Work]]


@pytest.fixture
def pruning(make_recipe: Callable[..., Recipe], data: Data, tmp_path: Path) -> Make:
    """Makes a step, an untrained student and what it works with; `watch`, `folder` and `fit`."""

    def make(
        method: str, watch: Silent | None = None, folder: str = "", fit: Fit = SHORT, **more: Any
    ) -> tuple[PruneStep, Student, Work]:
        step = PruneStep("prune", "prune", method, fit, **more)  # type: ignore[arg-type]
        recipe = make_recipe(step)
        model = ModelChoice("tests.learn.prune.conftest:tiny")
        recipe = replace(recipe, head=replace(recipe.head, model=model))
        student = Student(first_network(recipe, data).eval())
        return step, student, Work(recipe, data, HERE, watch or Silent(), tmp_path / folder)

    return make


def same(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have the same bits."""
    tensors = other.state_dict()
    return all(torch.equal(value, tensors[name]) for name, value in one.state_dict().items())


def without_steps(fit: Fit) -> Fit:
    """Prunes only."""
    return replace(fit, epochs=0)


def gone(module: nn.Module, names: list[str]) -> Tensor:
    """How many weights of each of these parameters are zero."""
    return torch.tensor([int((module.get_parameter(name) == 0).sum()) for name in names])
