"""Lessons on made-up batches, and listeners that keep what they are told."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from edgekit.learn.data.source import Data
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.recipe.recipe import Recipe
from edgekit.learn.teach import lesson_of
from edgekit.learn.train.lesson import Fitted, Lesson, Point
from edgekit.learn.train.loop import fit
from edgekit.learn.train.place import HERE
from edgekit.learn.work import Work
from tests.learn.conftest import Silent


class Block(nn.Module):
    """A residual block with batch norm and dropout."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.drop = nn.Dropout(0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.drop(torch.relu(self.norm(self.conv(x))))
        return x + found


def small_net(norm: bool = True, seed: int = 0) -> nn.Sequential:
    """(N, 3, H, W) -> (N, 3); without batch norm and dropout if not `norm`."""
    torch.manual_seed(seed)
    blocks = nn.Sequential(Block(8), Block(8)) if norm else nn.Sequential(nn.ReLU())
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )


class Kept:
    """Keeps what it is told; raises `error` after `after` steps."""

    def __init__(self, after: int = 0, error: BaseException | None = None) -> None:
        self.points: list[Point] = []
        self.rows: list[dict[str, float]] = []
        self.began: list[int] = []
        self._after, self._error = after, error

    def begin(self, steps: int, done: int, rows: list[dict[str, float]]) -> None:
        self.began.append(done)

    def step(self, point: Point) -> None:
        self.points.append(point)
        if self._error is not None and len(self.points) == self._after:
            raise self._error

    def epoch(self, row: dict[str, float]) -> None:
        self.rows.append(row)


@pytest.fixture
def lesson(recipe: Recipe, data: Data, tmp_path: Path) -> Callable[..., Lesson]:
    """Makes a lesson of 24 images in steps of 8; keywords are those of `Fit`."""

    def make(**how: object) -> Lesson:
        chosen = replace(Fit(learning_rate=0.01, epochs=2, batch=8), **how)  # type: ignore[arg-type]
        work = Work(recipe, data, HERE, Silent(), tmp_path)
        module = nn.Module()
        return lesson_of(module, chosen, None, work, module)

    return make


def run(
    module: nn.Module,
    lesson: Lesson,
    path: Path,
    listener: Kept | None = None,
    top1: Callable[[nn.Module], float] = lambda module: 0.5,
) -> Fitted:
    """The loop, on the CPU."""
    return fit(module, lesson, HERE, path / "fit.state.pt", listener or Kept(), top1)


def same(one: nn.Module, other: nn.Module) -> bool:
    """Whether all tensors are equal, bit for bit."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
