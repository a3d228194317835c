"""What a network is held to while it is pruned: masks, a penalty, a moment to come back to."""

from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType

import torch
from torch import Tensor, nn

from edgekit.learn.prune.masks import Masks, mask
from edgekit.learn.train.objective import Free


class Held(Free):
    """Holds masked weights at exactly zero while the `with` block lasts.

    Their gradients are zero, so neither momentum nor the gradient's norm counts them, and they are
    set to zero again after each step, whatever the optimiser did. A moving average of weights that
    are zero from the start stays zero.
    """

    def __init__(self, module: nn.Module, masks: Masks) -> None:
        """`module`'s masked weights become zero."""
        parameters = dict(module.named_parameters())
        self._gone = [(parameters[name], ~stays) for name, stays in masks.items()]
        mask(module, masks)

    def __enter__(self) -> "Held":
        self._hooks = [
            parameter.register_hook(partial(_without, gone)) for parameter, gone in self._gone
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def after_step(self, module: nn.Module) -> None:
        self._gone = [(p, gone.to(p.device)) for p, gone in self._gone]
        for parameter, gone in self._gone:
            parameter.masked_fill_(gone, 0.0)


def _without(gone: Tensor, gradient: Tensor) -> Tensor:
    return gradient.masked_fill(gone.to(gradient.device), 0.0)


class Shrink(Free):
    """Adds `weight` times the sum of the absolute weights to the loss (Han et al., 2015, 3.1)."""

    def __init__(self, weights: Iterable[Tensor], weight: float) -> None:
        self._weights, self._weight = tuple(weights), weight

    def penalty(self, module: nn.Module) -> Tensor | None:
        return self._weight * torch.stack([p.abs().sum() for p in self._weights]).sum()


class Remember(Free):
    """Gives the weights as they are when epoch `epoch` (from 0) begins to `keep`.

    A run that was interrupted within that epoch begins it again: `keep` must not forget what it
    was given the first time.
    """

    def __init__(self, epoch: int, keep: Callable[[nn.Module], None]) -> None:
        self._epoch, self._keep = epoch, keep

    def begin_epoch(self, module: nn.Module, epoch: int, epochs: int) -> None:
        if epoch == self._epoch:
            self._keep(module)
