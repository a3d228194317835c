"""Strided depthwise convolutions with a faster gradient, for training on CPUs.

The gradient of a strided depthwise convolution for its input has no fast kernel there (oneDNN 3:
136 ms against 4 ms at stride 1, 128x48x48x48 in bfloat16), and is two thirds of a training step
of a MobileNet. With the output's gradient spread out on a grid of zeros, it is a depthwise
convolution of stride 1 with the kernel turned around: the same numbers, from a fast kernel.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StridedDepthwise(torch.autograd.Function):
    """(N, C, H, W), (C, 1, k, k), padding k // 2, k odd -> (N, C, ceil(H/s), ceil(W/s))."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        padding = weight.shape[-1] // 2
        return F.conv2d(x, weight, stride=stride, padding=padding, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        stride, padding = ctx.stride, weight.shape[-1] // 2
        spread = torch.zeros_like(x)
        spread[:, :, ::stride, ::stride] = grads[0]
        for_x = F.conv2d(spread, weight.flip(2, 3), padding=padding, groups=len(weight))
        _, for_weight, _ = torch.ops.aten.convolution_backward(
            *(grads[0], x, weight, None, [stride] * 2, [padding] * 2, [1, 1]),
            *(False, [0, 0], len(weight), [False, True, False]),
        )
        return for_x, for_weight, None


@contextmanager
def fast_strides(module: nn.Module) -> Iterator[None]:
    """While the block lasts, the strided depthwise convolutions in `module` use this gradient."""
    changed = [m for m in module.modules() if isinstance(m, nn.Conv2d) and _fits(m)]
    for conv in changed:
        conv.forward = functools.partial(_forward, conv)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for conv in changed:
            del conv.forward


def _fits(conv: nn.Conv2d) -> bool:
    down, right = conv.stride
    k = conv.kernel_size[0]
    return (
        conv.groups == conv.in_channels == conv.out_channels > 1
        and down == right > 1
        and conv.kernel_size == (k, k)
        and k % 2 == 1
        and conv.padding == (k // 2, k // 2)
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
    )


def _forward(conv: nn.Conv2d, x: Tensor) -> Tensor:
    weight, bias = conv.weight, conv.bias
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, weight = x.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    out: Tensor = StridedDepthwise.apply(x, weight, conv.stride[0])  # type: ignore[no-untyped-call]
    return out if bias is None else out + bias.view(1, -1, 1, 1)
