"""Networks that are narrower than their architecture builds them: `Card.widths`, applied.

A pruned network is stored as the architecture's name, its arguments, and what differs:
module -> attribute -> number, as in `{"features.1.conv.0.0": {"out_channels": 24}}`. Convolutions,
linear layers, batch norm and PReLU get weights of that size; of any other module the plain integer
attribute is set, as the zeros that a shortcut pads with.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edgekit.errors import CheckpointError

Widths = Mapping[str, Mapping[str, int]]

SIZES: tuple[tuple[type[nn.Module], tuple[str, ...]], ...] = (
    (nn.Conv2d, ("in_channels", "out_channels", "groups")),
    (nn.Linear, ("in_features", "out_features")),
    (nn.BatchNorm2d, ("num_features",)),
    (nn.BatchNorm1d, ("num_features",)),
    (nn.PReLU, ("num_parameters",)),
)
"""Kinds of layers whose weights follow from these attributes."""


def apply_widths(module: nn.Module, widths: Widths) -> nn.Module:
    """Make `module` as narrow as `widths` says, in place.

    Weights keep their first channels, so that what was initialised stays initialised; those of a
    checkpoint are loaded over them.

    Returns:
        `module`.

    Raises:
        CheckpointError: `widths` names a module or an attribute that is not there, or a number
            that makes no sense: a layer cannot become wider than it is built.
    """
    parts = dict(module.named_modules())
    for name, attributes in widths.items():
        if name not in parts:
            raise CheckpointError(
                f"the card's widths name a module '{name}', which the network does not have; "
                "is the checkpoint of another architecture or other arguments?"
            )
        _resize(name, parts[name], attributes)
    return module


def merged(first: Widths, then: Widths) -> dict[str, dict[str, int]]:
    """The widths of a network that was pruned twice; what came last holds."""
    names = [*first, *(name for name in then if name not in first)]
    return {name: {**first.get(name, {}), **then.get(name, {})} for name in names}


def sizes(part: nn.Module) -> tuple[str, ...]:
    """The attributes that a layer's weights follow from; none of a module without."""
    return next((names for kind, names in SIZES if isinstance(part, kind)), ())


def _resize(name: str, part: nn.Module, attributes: Mapping[str, int]) -> None:
    known = sizes(part)
    for attribute, value in attributes.items():
        built = getattr(part, attribute, None)
        if type(built) is not int or (known and attribute not in known):
            raise CheckpointError(
                f"the card's widths say {attribute} of '{name}', a {type(part).__name__}, which "
                f"has no such number; it has: {', '.join(known) or 'none that is known'}"
            )
        least = 1 if known else 0
        if type(value) is not int or not least <= value <= built:
            raise CheckpointError(
                f"the card's widths say {attribute}={value} of '{name}', which is built with "
                f"{built}; a pruned layer has {least} to {built}"
            )
    for attribute, value in attributes.items():
        setattr(part, attribute, value)
    if known:
        _check_groups(name, part)
        for key, shape in _shapes(part).items():
            _cut(part, key, shape)


def _check_groups(name: str, part: nn.Module) -> None:
    if not isinstance(part, nn.Conv2d):
        return
    if part.in_channels % part.groups or part.out_channels % part.groups:
        raise CheckpointError(
            f"the card's widths make '{name}' a convolution of {part.in_channels} to "
            f"{part.out_channels} channels in {part.groups} groups, which do not divide them"
        )


def _shapes(part: nn.Module) -> dict[str, tuple[int, ...]]:
    """Tensor -> shape, as the layer's attributes want them."""
    if isinstance(part, nn.Conv2d):
        weight = (part.out_channels, part.in_channels // part.groups, *part.kernel_size)
        return {"weight": weight, "bias": (part.out_channels,)}
    if isinstance(part, nn.Linear):
        return {"weight": (part.out_features, part.in_features), "bias": (part.out_features,)}
    if isinstance(part, nn.PReLU):
        return {"weight": (part.num_parameters,)}
    assert isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d)
    names = ("weight", "bias", "running_mean", "running_var")
    return {name: (part.num_features,) for name in names}


def _cut(part: nn.Module, key: str, shape: tuple[int, ...]) -> None:
    """Cut one tensor to `shape`; nothing where the layer has none."""
    tensor: Tensor | None = getattr(part, key, None)
    if tensor is None or tuple(tensor.shape) == shape:
        return
    with torch.no_grad():
        smaller = tensor.detach()[tuple(slice(size) for size in shape)].clone()
    if smaller.shape != shape:  # of fewer groups, each with more inputs than it is built with
        raise CheckpointError(
            f"the card's widths make a tensor '{key}' of {shape} of one of {tuple(tensor.shape)}; "
            "a pruned layer has no more inputs a group than it is built with"
        )
    if isinstance(tensor, nn.Parameter):
        setattr(part, key, nn.Parameter(smaller, requires_grad=tensor.requires_grad))
    else:
        setattr(part, key, smaller)
