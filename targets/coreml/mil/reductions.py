"""Sums, means and extremes along axes."""

from collections.abc import Callable

import torch
from torch import Tensor

from targets.coreml.mil import Inputs, Operator


def _reduction(function: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    def reduce(given: Inputs) -> Tensor:
        x: Tensor = given["x"]
        axes = given.get("axes")
        axes = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in axes]
        return function(x, axes, given.get("keep_dims", False))

    return reduce


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def argmax(given: Inputs) -> Tensor:
    """Of equal values the first."""
    x: Tensor = given["x"]
    return x.argmax(given.get("axis", -1), keepdim=given.get("keep_dims", False))


def argmin(given: Inputs) -> Tensor:
    """Of equal values the first."""
    x: Tensor = given["x"]
    return x.argmin(given.get("axis", -1), keepdim=given.get("keep_dims", False))


def cumsum(given: Inputs) -> Tensor:
    """Running sums along `axis`, the value itself included unless `exclusive`."""
    x: Tensor = given["x"]
    axis, backwards = given.get("axis", 0), given.get("reverse", False)
    x = x.flip(axis) if backwards else x
    total = x.cumsum(axis) - (x if given.get("exclusive", False) else 0)
    return total.flip(axis) if backwards else total


OPERATORS: dict[str, Operator] = {
    "reduce_mean": _reduction(lambda x, axes, keep: x.mean(axes, keepdim=keep)),
    "reduce_sum": _reduction(lambda x, axes, keep: x.sum(axes, keepdim=keep)),
    "reduce_max": _reduction(lambda x, axes, keep: x.amax(axes, keepdim=keep)),
    "reduce_min": _reduction(lambda x, axes, keep: x.amin(axes, keepdim=keep)),
    "reduce_prod": _reduction(_product),
    "reduce_sum_square": _reduction(lambda x, axes, keep: (x * x).sum(axes, keepdim=keep)),
    "reduce_l1_norm": _reduction(lambda x, axes, keep: x.abs().sum(axes, keepdim=keep)),
    "reduce_l2_norm": _reduction(lambda x, axes, keep: (x * x).sum(axes, keepdim=keep).sqrt()),
    "reduce_log_sum_exp": _reduction(lambda x, axes, keep: torch.logsumexp(x, axes, keep)),
    "reduce_log_sum": _reduction(lambda x, axes, keep: x.sum(axes, keepdim=keep).log()),
    "reduce_argmax": argmax,
    "reduce_argmin": argmin,
    "cumsum": cumsum,
}
