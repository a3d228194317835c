"""Tensors of labels: int64, shaped as the activations whose channels they name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter or buffer that forward() reads itself."""

    tensor: Tensor


def spread(labels: Tensor, shape: Sequence[int]) -> Tensor:
    """(C,) -> (1, C, H, W) or (1, C), without memory of its own."""
    return labels.view(1, -1, *[1] * (len(shape) - 2)).expand(tuple(shape))


def channels_of(x: Tensor, dim: int) -> Tensor | None:
    """The labels along `dim`; None where they are not the same along the other dimensions."""
    last = x.movedim(dim, -1)
    labels = last.reshape(-1, last.shape[-1])[0] if x.dim() < 3 else last[(0,) * (x.dim() - 1)]
    return labels if bool((last == labels).all()) else None


def order(x: Tensor) -> list[int]:
    """The labels as they lie, each run of equal ones once."""
    found: list[int] = x.flatten().unique_consecutive().tolist()
    return found


def pairs(pair: Tensor) -> Tensor:
    """(2, 1, C, H, W) -> (2, C): each pair of labels once."""
    if pair.dim() == 5 and bool((pair == pair[..., :1, :1]).all()):
        return pair[:, 0, :, 0, 0]
    return pair.flatten(1).unique(dim=1)


def shape_after(x: Tensor, layer: nn.Conv2d | nn.Linear) -> tuple[int, ...]:
    """The shape that a layer makes of `x`."""
    if isinstance(layer, nn.Linear):
        return (*x.shape[:-1], layer.out_features)
    pixels = torch.empty(1, layer.groups, *x.shape[2:], device="meta")
    kernel = torch.empty(layer.groups, 1, *layer.kernel_size, device="meta")
    padding, stride = layer.padding, layer.stride
    made = torch.nn.functional.conv2d(
        pixels, kernel, None, stride, padding, layer.dilation, layer.groups
    )
    return (1, layer.out_channels, *made.shape[2:])


def holds_labels(value: Any) -> bool:
    """Whether a value, or one in it, depends on the image."""
    return any(isinstance(each, Tensor | Weight) for each in flat((value,)))


def flat(values: Any) -> list[Any]:
    """All that lists and tuples hold."""
    if isinstance(values, list | tuple):
        return [each for value in values for each in flat(value)]
    return [values]
