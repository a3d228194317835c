"""Batch norm for weights that were stored with it folded in, so that they can be trained on.

Published weights often come folded: each convolution W x + b holds its batch norm, and a network
without batch norm is hard to train on. With the mean m and variance v of W x over some images,

    gamma * (W x - m) / sqrt(v + eps) + beta,   gamma = sqrt(v + eps),   beta = m + b

is W x + b again, to the last rounding, and while training it normalises as it once did.
"""

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

from edgekit.lower.network import folds


def unfold(module: nn.Module, folded: nn.Module, inputs: Iterable[Tensor]) -> nn.Module:
    """Give `module` the weights of `folded`, and batch norm that changes nothing in eval mode.

    Args:
        module: as the architecture builds it, with batch norm; changed.
        folded: the same architecture through `fold_batch_norm`, with the weights.
        inputs: (N, 3, H, W) each, normalised: what the statistics are of.

    Returns:
        `module`, in eval mode.
    """
    sums = {conv: _Moments() for conv, _ in folds(module.eval())}
    hooks = [
        folded.get_submodule(conv).register_forward_hook(partial(_note, moments))
        for conv, moments in sums.items()
    ]
    with torch.inference_mode():
        for batch in inputs:
            folded(batch)
    for hook in hooks:
        hook.remove()
    state = dict(folded.state_dict())
    for conv, norm in folds(module):
        batch_norm = module.get_submodule(norm)
        assert isinstance(batch_norm, nn.BatchNorm2d)
        bias = state.pop(f"{conv}.bias")
        mean, variance = sums[conv].mean.float(), sums[conv].variance.float()
        if module.get_submodule(conv).bias is not None:
            state[f"{conv}.bias"] = torch.zeros_like(bias)
        state |= {
            f"{norm}.weight": torch.sqrt(variance + batch_norm.eps),
            f"{norm}.bias": mean + bias,
            f"{norm}.running_mean": mean,
            f"{norm}.running_var": variance,
            f"{norm}.num_batches_tracked": torch.tensor(0),
        }
    module.load_state_dict(state)
    return module.eval()


class _Moments:
    """Sums over all images and pixels, in float64, of each channel and its square."""

    def __init__(self) -> None:
        self.count = 0
        self.sum: Tensor = torch.zeros(())
        self.squares: Tensor = torch.zeros(())

    @property
    def mean(self) -> Tensor:
        return self.sum / self.count

    @property
    def variance(self) -> Tensor:
        return (self.squares / self.count - self.mean**2).clamp(min=0)


def _note(moments: _Moments, conv: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
    """Add a convolution's output, without its bias; hooks are called so."""
    bias = conv.get_parameter("bias").double().view(-1, 1, 1)
    values = out.double() - bias
    moments.count += values.numel() // values.shape[1]
    moments.sum = moments.sum + values.sum((0, 2, 3))
    moments.squares = moments.squares + values.square().sum((0, 2, 3))
