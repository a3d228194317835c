"""Round weights to few bits so that a layer's outputs change least, column by column.

What rounding one input's weights adds to the outputs, the weights of the inputs after it take back,
as far as the inputs go together. Frantar et al., GPTQ: Accurate Post-Training Quantization for
Generative Pre-trained Transformers, 2022 (https://arxiv.org/abs/2210.17323), section 3: with the
inputs' second moments on images, the strongest inputs first.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from edgekit.lower.export import aten

DAMPING = 0.01
"""Of the mean second moment, added to each."""
BLOCK = 128
"""Columns that are rounded before what they leave is taken to those after the block."""


def moments(layer: fx.Node, inputs: Sequence[Tensor]) -> Tensor:
    """Second moments of what the weights of one output channel are multiplied with.

    Args:
        layer: `conv2d` or `linear`.
        inputs: what the layer takes of each image.

    Returns:
        (groups, K, K) float64, K the weights of a channel.
    """
    found = [torch.stack([(c @ c.T).double() for c in _columns(layer, x)]) for x in inputs]
    return torch.stack(found).sum(0)


def _columns(layer: fx.Node, x: Tensor) -> list[Tensor]:
    """(K, positions) of each group."""
    if layer.target is aten.linear.default:
        return [x.flatten(0, -2).T]
    names = ("stride", "padding", "dilation", "groups")
    given: dict[str, Any] = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    given |= dict(zip(names, layer.args[3:], strict=False))
    weight, groups = layer.args[1], given.pop("groups")
    assert isinstance(weight, fx.Node)
    kernel = weight.meta["val"].shape[2:]
    return [functional.unfold(part, kernel, **given)[0] for part in x.chunk(groups, dim=1)]


def round_rows(rows: Tensor, scales: Tensor, largest: int, found: Tensor) -> Tensor:
    """Integers of the weights of one group.

    Args:
        rows: (O, K).
        scales: (O,).
        largest: integer, as large as the least one is small.
        found: (K, K), from `moments`.

    Returns:
        (O, K) float64 of whole numbers.
    """
    strength = found.diagonal()
    order = strength.argsort(descending=True, stable=True)
    damped = found[order][:, order] + DAMPING * strength.mean().clamp(min=1e-12) * torch.eye(
        len(order), dtype=found.dtype
    )
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    feedback = torch.linalg.cholesky(inverse, upper=True)
    left, steps = rows.double()[:, order].clone(), scales.double()
    integers = torch.empty_like(left)
    for start in range(0, left.shape[1], BLOCK):
        stop = min(start + BLOCK, left.shape[1])
        errors = torch.empty_like(left[:, start:stop])
        for j in range(start, stop):
            integers[:, j] = (left[:, j] / steps).round().clamp(-largest, largest)
            error = (left[:, j] - integers[:, j] * steps) / feedback[j, j]
            left[:, j + 1 : stop] -= error[:, None] * feedback[j, j + 1 : stop]
            errors[:, j - start] = error
        left[:, stop:] -= errors @ feedback[start:stop, stop:]
    return integers[:, order.argsort()]
