"""Masks: which weights of a network there are, and which are held at zero.

A mask is a bool tensor of the shape of a parameter, True where the weight stays. What is not in
the mapping is dense.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from itertools import takewhile
from typing import TypeAlias

import torch
from torch import Tensor, nn

from edgekit.errors import SpecError, UnknownName
from edgekit.learn.work import Student

Masks: TypeAlias = Mapping[str, Tensor]
"""Name of a parameter -> its mask, on the CPU."""


def prunable(module: nn.Module, keep: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The weights that are pruned: those of convolutions and linear layers, in the network's order.

    Stay dense, beside what `keep` matches: the convolutions that see the image and the depthwise
    ones, which have a few per cent of the weights and cost more accuracy than all others of the
    same number (measured in docs/pruning.md; so do Elsen et al., 2020, "Fast Sparse ConvNets");
    biases and batch norm. The classifier is pruned: it may be a third of a small network.

    Raises:
        UnknownName: a pattern of `keep` matches no convolution or linear layer.
        SpecError: nothing is left to prune.
    """
    layers = {n: m for n, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    for pattern in keep:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise UnknownName("layer to keep", pattern, layers)
    seeing = _seeing(layers)
    found = {
        f"{name}.weight": layer.weight
        for name, layer in layers.items()
        if name not in seeing
        and not is_depthwise(layer)
        and not any(fnmatchcase(name, pattern) for pattern in keep)
    }
    if not found:
        raise SpecError(
            "there is nothing to prune: all convolutions and linear layers are kept "
            "(those that see the image and depthwise ones always are); shorten 'keep'"
        )
    return found


def _seeing(layers: Mapping[str, nn.Module]) -> set[str]:
    """The first convolution, and those beside it where the first layer has branches."""
    convolutions = [(n, layer) for n, layer in layers.items() if isinstance(layer, nn.Conv2d)]
    channels = convolutions[0][1].in_channels if convolutions else 0
    return {n for n, _ in takewhile(lambda item: item[1].in_channels == channels, convolutions)}


def is_depthwise(layer: nn.Module) -> bool:
    """Whether each output channel sees one input channel."""
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1


def zeros(module: nn.Module) -> dict[str, Tensor]:
    """Masks of the filters and matrices in which a weight is exactly zero: what was pruned."""
    weights = {n: p.detach() for n, p in module.named_parameters() if p.dim() > 1}
    return {n: (weight != 0).cpu() for n, weight in weights.items() if not weight.all()}


def pruned_before(student: Student) -> dict[str, Tensor]:
    """Masks of what earlier steps of the recipe pruned; a network that none pruned has none.

    A step that trains on holds them: what was pruned stays zero.
    """
    pruned = any(made.kind == "prune" for made in student.history)
    return zeros(student.module) if pruned else {}


@torch.no_grad()
def mask(module: nn.Module, masks: Masks) -> None:
    """Set the masked weights to zero, in place."""
    parameters = dict(module.named_parameters())
    for name, stays in masks.items():
        parameters[name].masked_fill_(~stays.to(parameters[name].device), 0.0)


def both(one: Masks, other: Masks) -> dict[str, Tensor]:
    """What neither of them holds at zero."""
    return {
        name: one[name] & other[name] if name in one and name in other else stays
        for name, stays in {**one, **other}.items()
    }


def sparsity(masks: Masks) -> float:
    """Share of the weights under the masks that are held at zero, 0 to 1."""
    return 1 - sum(int(m.sum()) for m in masks.values()) / sum(m.numel() for m in masks.values())


def emptied(masks: Masks) -> list[str]:
    """Names of the parameters of which no weight is left: their layers give a constant."""
    return [name for name, stays in masks.items() if not stays.any()]
