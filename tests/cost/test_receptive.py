from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.cost.graph import trace
from edgekit.cost.receptive import ReceptiveField, receptive_field
from edgekit.errors import SpecError
from edgekit.lower.sketch import sketch
from edgekit.spec import ImageSpec

SIDE = 96


class Branches(nn.Module):
    """Of one function that is given three convolutions of three channels to three."""

    def __init__(self, function: Callable[["Branches", Tensor], Tensor]) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(3, 3, 1, stride=2)
        self.wide = nn.Conv2d(3, 3, 5, stride=2, padding=2)
        self.deep = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def shuffled(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, c, 1, h, w).transpose(1, 2).reshape(n, c, h, w)


def halves(net: Branches, x: Tensor) -> Tensor:
    left, right = torch.cat((net.wide(x), net.wide(x)), dim=1).chunk(2, dim=1)
    return torch.cat((left, net.deep(F.pad(right, (1, 1, 1, 1)))), dim=1)


CASES: dict[str, nn.Module] = {
    "one": nn.Conv2d(3, 4, 7, stride=2, padding=3),
    "even": nn.Sequential(nn.Conv2d(3, 4, 4, stride=2, padding=1), nn.Conv2d(4, 4, 2)),
    "same": nn.Conv2d(3, 4, 5, padding="same", dilation=3),
    "dilated": nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 4, 3, dilation=2)),
    "tall": nn.Sequential(nn.Conv2d(3, 4, (5, 1)), nn.Conv2d(4, 4, (3, 1), stride=(2, 1))),
    "pools": nn.Sequential(
        nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(2), nn.MaxPool2d(2, 1, dilation=2)
    ),
    "holes": nn.Sequential(nn.Conv2d(3, 4, 1, stride=2), nn.Conv2d(4, 4, 3, padding=1)),
    "merge": Branches(lambda net, x: F.relu(net.narrow(x) + net.wide(x))),
    "off-centre": Branches(lambda net, x: F.pad(x, (9, 0, 9, 0))[:, :, :-9, :-9] + x),
    "chunks": Branches(halves),
    "sliced": Branches(lambda net, x: net.wide(shuffled(net.deep(x))[:, :, 1::2, 1::2])),
    "adaptive": nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(SIDE // 4)),
    "attention": Branches(lambda net, x: net.deep(x) * net.deep(x).mean(dim=1, keepdim=True)),
}


def extent(module: nn.Module, dim: int) -> int:
    """Rows (2) or columns (3) whose NaN arrives at the middle of the map, first to last."""
    images = torch.rand(SIDE, 3, SIDE, SIDE)
    for line in range(SIDE):
        images[line].select(dim - 1, line).fill_(torch.nan)
    with torch.inference_mode():
        maps = module.eval()(images)
    middle = maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2]
    seen = middle.isnan().any(dim=1).nonzero()
    return int(seen.max() - seen.min()) + 1


@pytest.mark.parametrize("name", CASES)
def test_it_is_what_the_middle_of_the_map_sees(name: str) -> None:
    module = CASES[name]
    found = receptive_field(trace(module, ImageSpec(SIDE, SIDE)))
    assert found.pixels == max(extent(module, 2), extent(module, 3))


@pytest.mark.parametrize("blocks", [3, 7])
def test_the_first_blocks_of_mobilenet_v2(blocks: int) -> None:
    features = sketch("mobilenet_v2", {"width_mult": 0.35}).module.get_submodule("features")
    assert isinstance(features, nn.Sequential)
    module = features[:blocks]
    found = receptive_field(trace(module, ImageSpec(SIDE, SIDE)))
    assert found.pixels == extent(module, 2)
    assert found.stride == {3: 4, 7: 8}[blocks]


def test_mobilenet_v2() -> None:
    network = sketch("mobilenet_v2")
    assert receptive_field(trace(network.module, network.image)) == ReceptiveField(
        491, 32, (2, 4, 8, 16, 32), "features.18.2 (hardtanh)", (1, 1280, 7, 7)
    )


class Excited(nn.Module):
    """A squeeze-and-excite branch in the middle, and a head of convolutions after pooling."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.gate = nn.Sequential(pool, nn.Conv2d(8, 8, 1), nn.Hardsigmoid())
        self.last = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Sequential(pool, nn.Conv2d(8, 8, 1), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y: Tensor = self.head(self.last(x * self.gate(x)))
        return y


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(-2, -1), keepdim=True)


@pytest.mark.parametrize("side", [32, 2], ids=["maps", "maps of one pixel"])
@pytest.mark.parametrize(
    "pool", [Mean(), nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1), nn.AvgPool2d(16)]
)
def test_what_follows_global_pooling_does_not_count(pool: nn.Module, side: int) -> None:
    if isinstance(pool, nn.AvgPool2d) and side == 2:
        pool = nn.AvgPool2d(1)
    found = receptive_field(trace(Excited(pool), ImageSpec(side, side)))
    assert (found.pixels, found.stride, found.layer) == (3 + 2 * 2, 2, "last (conv2d)")


UNKNOWN: dict[str, tuple[nn.Module, str]] = {
    "transposed": (nn.ConvTranspose2d(3, 3, 3, padding=1), "conv_transpose2d"),
    "grown": (nn.Upsample(scale_factor=2), "upsample"),
    "turned": (Branches(lambda net, x: net.wide(x).permute(0, 2, 3, 1)), "permute"),
    "steps": (Branches(lambda net, x: net.narrow(x) + x[:, :, :48, :48]), "add"),
    "refolded": (
        Branches(lambda net, x: net.wide(net.wide(x).flatten(2).unflatten(2, (48, 48)))),
        "wide .conv2d.",
    ),
    "no map": (nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2)), "no feature map"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_cannot_be_followed_is_named(name: str) -> None:
    module, said = UNKNOWN[name]
    with pytest.raises(SpecError, match=said):
        receptive_field(trace(module, ImageSpec(SIDE, SIDE)))


def test_squeezenet_by_hand_whatever_the_image() -> None:
    stem, pools, fires = 2, 2 * (2 + 4 + 8), 2 * (2 * 4 + 2 * 8 + 4 * 16)
    for size in ((64, 64), (96, 128)):
        network = sketch("squeezenet1_1", size=size)
        found = receptive_field(trace(network.module, network.image))
        assert (found.pixels, found.stride) == (1 + stem + pools + fires, 16)
        assert found.shape[1] == 1000  # its classifier is a convolution, pooled afterwards
