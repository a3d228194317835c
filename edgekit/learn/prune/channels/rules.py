"""What each operation does to channels; an operation that is not here cannot be followed."""

import operator
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

POINTWISE_MODULES = (
    *(nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign),
    *(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d),
)
"""Each channel by itself, and none changes places."""

POINTWISE: tuple[Callable[..., object] | str, ...] = (
    *(F.relu, F.relu6, F.hardtanh, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish),
    *(F.hardswish, F.hardsigmoid, F.sigmoid, F.tanh, F.softplus, F.softsign, F.dropout),
    *(F.dropout2d, torch.relu, torch.sigmoid, torch.tanh, torch.clamp, torch.clone, torch.neg),
    *("relu", "relu_", "sigmoid", "sigmoid_", "tanh", "clamp", "clamp_", "clamp_min", "clone"),
    *("contiguous", "float", "to", "detach", "neg"),
)

JOINS: tuple[Callable[..., object] | str, ...] = (
    *(operator.add, operator.iadd, operator.sub, operator.isub, torch.add, torch.sub),
    *(torch.maximum, torch.minimum, "add", "add_", "sub", "sub_"),
)
"""Two tensors, channel by channel; what is zero in both is zero."""

PRODUCTS: tuple[Callable[..., object] | str, ...] = (
    *(operator.mul, operator.imul, torch.mul, "mul", "mul_"),
)
"""As `JOINS`; what is zero in one of them is zero."""

QUOTIENTS: tuple[Callable[..., object] | str, ...] = (operator.truediv, torch.div, "div", "div_")
"""By a number alone."""

POOLS_MODULES = (
    *(nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    *(nn.Upsample, nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d),
)
"""Pixels of a channel among each other."""

POOLS: tuple[Callable[..., object] | str, ...] = (
    *(F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d, F.interpolate),
    *(torch.max_pool2d, F.lp_pool2d, F.upsample),
)

MEANS: tuple[Callable[..., object] | str, ...] = (
    *(torch.mean, torch.sum, torch.amax, "mean", "sum", "amax"),
)
"""Over dimensions that have to be other ones than the channels'."""

MOVES_MODULES = (nn.Flatten, nn.ChannelShuffle, nn.PixelShuffle, nn.PixelUnshuffle, nn.Unflatten)
"""Nothing is computed: elements change places, and are done likewise to channels' labels."""

MOVES: tuple[Callable[..., object] | str, ...] = (
    *(torch.flatten, torch.reshape, torch.transpose, torch.permute, torch.squeeze, torch.unsqueeze),
    *(torch.chunk, torch.split, torch.narrow, torch.cat, torch.concat, torch.stack),
    *(
        operator.getitem,
        F.channel_shuffle,
        F.pixel_shuffle,
        F.pixel_unshuffle,
        torch.channel_shuffle,
    ),
    *("flatten", "view", "reshape", "transpose", "permute", "squeeze", "unsqueeze", "chunk"),
    *("split", "narrow", "expand", "swapaxes", "unbind"),
)
