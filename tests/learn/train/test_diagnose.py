"""A run that went astray ends with the step and the layer."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekit.errors import SpecError
from edgekit.learn.train import look as looking
from edgekit.learn.train import loop
from edgekit.learn.train.lesson import Lesson
from edgekit.learn.train.look import Look
from edgekit.learn.train.objective import Free, Labels, Part
from tests.learn.train.conftest import Kept, run, small_net

Make = Callable[..., Lesson]


class Root(nn.Module):
    """Breaks in its fourth training step: the root of a negative number."""

    def __init__(self, step: int = 4) -> None:
        super().__init__()
        self.steps = nn.Buffer(torch.zeros(()))
        self.at = step

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.steps.add_(1)
        return torch.sqrt(-x.abs() - 1) if self.training and self.steps >= self.at else x


@pytest.mark.parametrize("at_once", [1, 2])
def test_the_first_layer_that_is_not_finite_is_named(
    lesson: Make, tmp_path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if at_once > 1:  # as on a GPU: seen some steps later, and computed again from the last state

        class Late(Look):
            def __init__(self, now: object, classes: int, once: int, first: int = 0) -> None:
                super().__init__(now, classes, 2 if not late else 1, first)  # type: ignore[arg-type]
                late.append(once)

        late: list[int] = []
        monkeypatch.setattr(loop, "Look", Late)
    module = small_net()
    module.insert(2, Root())
    with pytest.raises(SpecError, match=r"in step 1 of epoch 2: .* is '2' \(Root\)"):
        run(module, lesson(save_every_s=0.0), tmp_path)
    stored = torch.load(tmp_path / "fit.state.pt", weights_only=True)
    assert (stored["epoch"], stored["step"]) == (1, 0)
    assert all(torch.isfinite(v).all() for v in stored["module"].values())


def test_weights_that_are_no_numbers_are_named(lesson: Make, tmp_path: Path) -> None:
    module = small_net()
    with torch.no_grad():
        module.get_parameter("4.weight")[0, 0] = torch.nan
    with pytest.raises(SpecError, match=r"step 1 of epoch 1: the tensor '4.weight' was no longer"):
        run(module, lesson(), tmp_path)


class Broken(Labels):
    """A loss that is no number by itself, or has a gradient that is none."""

    def __init__(self, gradient: bool) -> None:
        self._gradient = gradient

    def loss(self, module: nn.Module, part: Part) -> Tensor:
        logits: Tensor = module(part.inputs)
        if self._gradient:
            return torch.sqrt((logits - logits.detach()).abs().sum())  # 0; its slope is infinite
        return logits.sum() * torch.inf


@pytest.mark.parametrize(
    ("gradient", "said"),
    [(False, "the loss alone is not"), (True, "its gradient is not.* in '4.bias'")],
)
def test_a_loss_or_gradient_alone_is_named(
    lesson: Make, tmp_path: Path, gradient: bool, said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        run(small_net(), replace(lesson(), objective=Broken(gradient)), tmp_path)


def test_divergence_is_named_with_the_largest_layer(
    lesson: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "LONG", 12)

    class Grows(Free):
        def after_step(self, module: nn.Module) -> None:
            with torch.no_grad():
                module[4].bias[0] += 1  # type: ignore[index]

    told = replace(lesson(epochs=30, optimizer="sgd", learning_rate=1e-6), rules=Grows())
    kept = Kept()
    with pytest.raises(SpecError, match=r"diverged: .*largest output is .* of '4' \(Linear\)"):
        run(small_net(), told, tmp_path, kept)
    assert len(kept.points) < 90


def test_a_few_far_losses_are_no_divergence(
    lesson: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "LONG", 4)

    class Spikes(Labels):
        steps = 0

        def loss(self, module: nn.Module, part: Part) -> Tensor:
            self.steps += 1
            return super().loss(module, part) * (1 if self.steps % 4 else 1e4)

    told = replace(lesson(epochs=10, optimizer="sgd", learning_rate=1e-8), objective=Spikes())
    assert len(run(small_net(), told, tmp_path).rows) == 10
