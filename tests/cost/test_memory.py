from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.cost.graph import trace
from edgekit.cost.memory import Peak, peak_activations
from edgekit.lower.sketch import sketch
from edgekit.spec import ImageSpec

IMAGE = ImageSpec(8, 8)
PLANE = 8 * 8 * 4
"""Bytes of one channel of the image in float32."""


class Of(nn.Module):
    """A network of one function; `conv` gives 16 channels, `back` gives 3."""

    def __init__(self, function: Callable[["Of", Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.back = nn.Conv2d(16, 3, 1)
        self.norm = nn.BatchNorm2d(16)
        self.drop = nn.Dropout(0.5)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def shuffled(x: Tensor) -> Tensor:
    return x.view(1, 2, 8, 8, 8).transpose(1, 2).reshape(1, 16, 8, 8)


def halves(net: Of, x: Tensor) -> Tensor:
    left, right = net.conv(x).chunk(2, dim=1)
    return F.max_pool2d(right, 2) + F.max_pool2d(left, 2)


CASES: dict[str, tuple[Callable[[Of, Tensor], Tensor], float, str]] = {
    # the image and its result, then the result and what it becomes
    "chain": (lambda net, x: net.back(net.conv(x)), 3 + 16, "conv (conv2d)"),
    # batch norm, activation and dropout are written over the convolution's result
    "element-wise": (
        lambda net, x: net.back(net.drop(F.silu(net.norm(net.conv(x))))),
        3 + 16,
        "conv (conv2d)",
    ),
    "in place": (lambda net, x: net.back(F.relu_(net.conv(x))), 3 + 16, "conv (conv2d)"),
    # an activation whose input is wanted again needs memory of its own
    "kept": (lambda net, x: net.back((y := net.conv(x)) * torch.sigmoid(y)), 32, "sigmoid"),
    # the image waits for the end of the skip
    "skip": (lambda net, x: x + net.back(net.conv(x)), 3 + 16 + 3, "back (conv2d)"),
    # both halves are one tensor, which lives until the second is done
    "chunk": (halves, 16 + 2 + 2, "max_pool2d"),
    "views": (lambda net, x: net.conv(x).flatten(1)[:, 3:].view(-1), 3 + 16, "conv (conv2d)"),
    # a channel shuffle's reshape really copies
    "shuffle": (lambda net, x: net.back(shuffled(net.conv(x))), 32, "reshape"),
    "twice": (lambda net, x: net.conv(net.back(net.conv(x))), 3 + 16, "conv (conv2d)"),
    "scaled": (
        lambda net, x: (y := net.conv(x)) * y.mean(dim=(2, 3), keepdim=True),
        3 + 16,
        "conv (conv2d)",
    ),
    "concatenated": (
        lambda net, x: torch.cat((net.conv(x), net.conv(x)), dim=1),
        64,
        "cat",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_peak_by_hand(name: str) -> None:
    function, planes, layer = CASES[name]
    assert peak_activations(trace(Of(function), IMAGE)) == Peak(int(planes * PLANE), layer)


def test_mobilenet_v2_is_worst_where_it_first_expands() -> None:
    network = sketch("mobilenet_v2")
    peak = peak_activations(trace(network.module, network.image))
    expanded, halved = 96 * 112 * 112, 96 * 56 * 56
    assert peak == Peak(4 * (expanded + halved), "features.2.conv.1.0 (conv2d)")


def test_squeezenet_is_worst_at_its_first_pooling() -> None:
    network = sketch("squeezenet1_1")
    peak = peak_activations(trace(network.module, network.image))
    stem, pooled = 64 * 111 * 111, 64 * 55 * 55
    assert peak == Peak(4 * (stem + pooled), "features.2 (max_pool2d)")
