from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from edgekit import plugins
from edgekit.cost.layers import LayerCost, cost
from edgekit.lower.sketch import sketch
from edgekit.spec import ImageSpec

IMAGE = ImageSpec(8, 16)


class Small(nn.Module):
    """Each kind of layer, one of them twice, and one without a module."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.depthwise = nn.Conv2d(6, 6, (3, 1), padding="same", groups=6)
        self.grouped = nn.Conv2d(6, 9, 1, stride=(2, 1), groups=3)
        self.filters = nn.Parameter(torch.ones(4, 9, 2, 2))
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        x = self.grouped(self.depthwise(self.depthwise(x)))
        x = F.conv2d(x, self.filters, dilation=1, stride=2)
        x = F.conv2d(x, torch.ones(4, 4, 1, 1))
        y: Tensor = self.head(x.mean(dim=(2, 3)))
        return y


def test_each_layer_in_order_by_hand() -> None:
    module = Small().eval()
    found = cost(module, IMAGE)
    assert found.layers == (
        LayerCost("stem", "conv 3x3 /2", 4 * 8 * 6 * 27, 162, (1, 6, 4, 8)),
        LayerCost("depthwise", "depthwise 3x1", 4 * 8 * 6 * 3, 24, (1, 6, 4, 8)),
        LayerCost("depthwise", "depthwise 3x1", 4 * 8 * 6 * 3, 0, (1, 6, 4, 8)),
        LayerCost("grouped", "grouped 1x1 /2x1 g=3", 2 * 8 * 9 * 2, 27, (1, 9, 2, 8)),
        LayerCost("layer 4", "conv 2x2 /2", 4 * 4 * 36, 144, (1, 4, 1, 4)),
        LayerCost("layer 5", "conv 1x1", 4 * 4 * 4, 0, (1, 4, 1, 4)),
        LayerCost("head", "linear", 20, 25, (1, 5)),
    )
    assert found.macs == sum(layer.macs for layer in found.layers)
    assert found.parameters == 162 + 12 + 24 + 27 + 144 + 25  # batch norm has 12


def test_dilation_is_named() -> None:
    (layer,) = cost(nn.Conv2d(3, 3, 3, dilation=2, groups=3), IMAGE).layers
    assert layer.kind == "depthwise 3x3 d=2"


@pytest.mark.parametrize(
    ("width", "millions", "parameters"),
    [(1.0, 300.8, 3_504_872), (0.75, 209, None), (0.5, 97, None), (0.35, 59, None)],
)
def test_the_published_figures(width: float, millions: float, parameters: int | None) -> None:
    network = sketch("mobilenet_v2", {"width_mult": width})
    found = cost(network.module, network.image)
    assert found.macs / 1e6 == pytest.approx(millions, abs=0.05 if width == 1.0 else 0.5)
    assert parameters in (None, found.parameters)


def flops(module: nn.Module, image: ImageSpec) -> int:
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, 3, image.height, image.width))
    return int(counter.get_total_flops())


@pytest.mark.parametrize("name", plugins.architectures())
def test_pytorch_counts_two_operations_for_each(name: str) -> None:
    network = sketch(name, size=(64, 64))
    found = cost(network.module, network.image)
    assert 2 * found.macs == flops(network.module, network.image)
    assert found.parameters == sum(p.numel() for p in network.module.parameters())
    assert sum(layer.parameters for layer in found.layers) <= found.parameters


@pytest.mark.parametrize("make", [nn.Conv1d, nn.Conv3d])
def test_other_ranks_count_too(make: Callable[..., nn.Module]) -> None:
    class Reshaped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = make(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            shape = (1, 3, -1) if make is nn.Conv1d else (1, 3, 1, 8, 16)
            y: Tensor = self.conv(x.reshape(shape))
            return y

    assert cost(Reshaped(), IMAGE).macs == 8 * 16 * 12
