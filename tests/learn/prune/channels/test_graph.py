"""Networks of the user's own: what is followed, and what is refused, by the layer's name."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekit.errors import SpecError
from edgekit.learn.prune.channels.graph import follow
from edgekit.learn.prune.channels.groups import dials, roles

from .conftest import Law

SIZE = (16, 16)


def conv(c_in: int, c_out: int, kernel: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(c_out), nn.Hardswish())


class Net(nn.Module):
    """first, then what a test is about, then a classifier."""

    def __init__(self, middle: nn.Module, out: int, first: int = 24):
        super().__init__()
        self.first, self.middle = conv(3, first, 3), middle
        self.last = nn.Linear(out, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.middle(self.first(x)).mean(dim=(2, 3)))
        return out


class Misaligned(nn.Module):
    """Two concatenations of other widths, added."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = conv(24, 10), conv(24, 20), conv(24, 20), conv(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.a(x), self.b(x)), 1) + torch.cat((self.c(x), self.d(x)), dim=1)


class Shared(nn.Module):
    """One layer that runs twice, with a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = conv(24, 24, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.twice(self.twice(x))
        return out


class Split(nn.Module):
    """Three parts by their sizes, one of which passes; then grouped, then dealt out."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.grouped = conv(8, 8, 3), conv(8, 8), conv(24, 24, groups=2)
        self.shuffle = nn.ChannelShuffle(3)

    def forward(self, x: Tensor) -> Tensor:
        left, middle, right = torch.chunk(x, 3, 1)
        out: Tensor = self.shuffle(
            self.grouped(torch.cat([self.a(left), middle, self.b(right)], 1))
        )
        return out


class Gate(nn.Module):
    """Hard-swish and squeeze-and-excite, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(24, 8, 1), nn.Conv2d(8, 24, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x * F.relu6(x + 3) / 6
        pooled = F.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.expand(F.relu(self.reduce(pooled))))


class PreActivated(nn.Module):
    """Batch norm and ReLU before the convolution, a skip around them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.prelu = nn.BatchNorm2d(24), nn.PReLU(24)
        self.conv = nn.Conv2d(24, 24, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv(self.prelu(self.norm(x)))
        return out


class Padded(nn.Module):
    """A shortcut that pads with zeros, in front alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.more = conv(24, 32), 8

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x) + F.pad(x, (0, 0, 0, 0, self.more, 0))
        return out


class Flat(nn.Module):
    """As VGG ends: every pixel of every channel has a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(24 * 64, 32), nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(x, 2).flatten(1)
        return F.relu(self.fc2(F.relu(self.fc1(x))))[:, :, None, None]


@pytest.mark.parametrize(
    ("middle", "out"),
    [
        (nn.Sequential(conv(24, 48, 3, groups=24), conv(48, 16)), 16),  # depthwise, two each
        (Misaligned(), 30),
        (Shared(), 24),
        (Split(), 24),
        (Gate(), 24),
        (PreActivated(), 24),
        (Padded(), 32),
        (nn.Sequential(nn.PixelUnshuffle(2), conv(96, 16)), 16),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_masked_and_compacted_agree(middle: nn.Module, out: int, holds: Law) -> None:
    torch.manual_seed(0)
    for seed in range(3):
        holds(Net(middle, out), SIZE, seed=seed)


def test_a_flattened_map_is_followed(holds: Law) -> None:
    torch.manual_seed(0)
    small, _ = holds(nn.Sequential(conv(3, 24), Flat(), nn.Flatten(), nn.Linear(16, 5)), SIZE)
    assert small.widths["1.fc1"]["in_features"] % 64 == 0


class Literal(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, 4, 4))


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class OwnWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(24, 24, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel)


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.softmax(dim=1)


def sigmoid_then(c: int) -> nn.Sequential:
    return nn.Sequential(nn.Sigmoid(), nn.Conv2d(c, c, 1))


@pytest.mark.parametrize(
    ("middle", "named"),
    [
        (Literal(), "'middle'.* 4 in forward"),
        (Branching(), "cannot trace its forward"),
        (OwnWeights(), "'middle'.*'conv2d'"),
        (Attention(), "'middle'.*'softmax'"),
        (nn.GroupNorm(4, 24), "'middle'.*GroupNorm"),
        (sigmoid_then(24), r"'middle\.1'.*not zero"),
        (nn.Sequential(nn.Conv3d(1, 1, 1)), r"'middle\.0'.*Conv3d"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_cannot_be_followed_is_refused_by_name(middle: nn.Module, named: str) -> None:
    with pytest.raises(SpecError, match=named):
        follow(Net(middle, 24).eval(), SIZE)


def test_the_image_and_the_answers_are_never_pruned() -> None:
    flow = follow(Net(nn.Identity(), 24).eval(), SIZE)
    (only,) = dials(flow, (), 0.0, 1)
    assert set(only.channels) == set(flow.roots(flow.outs["first.0"]))
    assert only.levels == tuple(range(24, 0, -1))


def test_a_scale_of_its_own_for_each_channel_keeps_them() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(24, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale

    assert dials(follow(Net(Scaled(), 24).eval(), SIZE), (), 0.0, 1) == []


@pytest.mark.parametrize(("keep", "left"), [((), 2), (("first.*",), 1), (("*.0",), 0)])
def test_layers_that_are_kept(keep: tuple[str, ...], left: int) -> None:
    module = Net(conv(24, 16), 16).eval()
    assert len(dials(follow(module, SIZE), keep, 0.0, 8)) == left


def test_a_shuffle_ties_its_channels_and_a_sum_unites_them() -> None:
    flow = follow(Net(Split(), 24).eval(), SIZE)
    tied = next(dial for dial in dials(flow, (), 0.0, 1) if "first.0" in dial.outs)
    assert tied.size < len(tied.channels)
    assert {"first.0", "middle.a.0", "middle.b.0"} <= set(tied.outs)
    united = follow(Net(Shared(), 24).eval(), SIZE)
    assert united.roots(united.outs["first.0"]) == united.roots(united.outs["middle.twice.0"])
    assert len(set(roles(united).values())) == 3  # the image's, the one sum's, the answers'
