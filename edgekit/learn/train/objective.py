"""What is learned: the loss of a part of a batch, and what a network is held to meanwhile."""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Part:
    """What a network is shown at once; on the run's device."""

    inputs: Tensor
    """(B, 3, H, W) float32, normalised; mixed, where MixUp or CutMix is asked for."""
    answers: Tensor
    """(B, classes) float32: probabilities wanted by the labels, smoothed and mixed."""
    index: Tensor
    """(B,) int64: which image of the split."""
    view: Tensor
    """(B,) int64: which view of it."""


class Objective(Protocol):
    """The loss.

    One that is an `nn.Module` has parameters of its own, which learn with the network's, are kept
    for a run that goes on, and have no part in what it leaves.
    """

    def loss(self, module: nn.Module, part: Part) -> Tensor:
        """Run `module` on `part.inputs`; a scalar, the mean over the images."""


def beside(objective: Objective) -> nn.Module:
    """What learns beside the network; a module without parameters where nothing does."""
    return objective if isinstance(objective, nn.Module) else nn.Module()


class Labels:
    """Cross entropy with the labels."""

    def loss(self, module: nn.Module, part: Part) -> Tensor:
        return F.cross_entropy(module(part.inputs).float(), part.answers)


class Rules(Protocol):
    """What a network is held to while it learns: masks, penalties, what is frozen when."""

    def begin_epoch(self, module: nn.Module, epoch: int, epochs: int) -> None:
        """Before epoch `epoch` (from 0) of `epochs`, after train() was called."""

    def penalty(self, module: nn.Module) -> Tensor | None:
        """Added to each step's loss."""

    @torch.no_grad()
    def after_step(self, module: nn.Module) -> None:
        """After the optimiser has changed the weights."""


class Free:
    """No rules."""

    def begin_epoch(self, module: nn.Module, epoch: int, epochs: int) -> None:
        """Nothing changes."""

    def penalty(self, module: nn.Module) -> Tensor | None:
        return None

    def after_step(self, module: nn.Module) -> None:
        """Nothing is held."""


class Together:
    """Several rules, one after the other; their penalties are added."""

    def __init__(self, *rules: Rules) -> None:
        self._rules = rules

    def begin_epoch(self, module: nn.Module, epoch: int, epochs: int) -> None:
        for rules in self._rules:
            rules.begin_epoch(module, epoch, epochs)

    def penalty(self, module: nn.Module) -> Tensor | None:
        found = [p for rules in self._rules if (p := rules.penalty(module)) is not None]
        return torch.stack(found).sum() if found else None

    def after_step(self, module: nn.Module) -> None:
        for rules in self._rules:
            rules.after_step(module)
