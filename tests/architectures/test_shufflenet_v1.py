"""ShuffleNet is the paper's: its arithmetic at every group count and scale, and its shuffle."""

import pytest
import torch
from torch import nn

from architectures._layers import channel_shuffle
from architectures.shufflenet_v1 import ShuffleUnit, shufflenet_v1
from edgekit.cost.layers import cost
from edgekit.spec import ImageSpec

# The paper's table 1 for 1x, the table of the authors' repository for other scales:
# (groups, scale) -> million multiply-accumulates.
PUBLISHED = {
    (1, 1.0): 143,
    (2, 1.0): 140,
    (3, 1.0): 137,
    (4, 1.0): 133,
    (8, 1.0): 137,
    (3, 0.5): 38,
    (3, 1.5): 292,
    (3, 2.0): 524,
    (8, 0.5): 40,
    (8, 1.5): 290,
    (8, 2.0): 522,
}


@pytest.mark.parametrize(("groups", "scale"), sorted(PUBLISHED))
def test_arithmetic_is_the_published_one(groups: int, scale: float) -> None:
    found = cost(shufflenet_v1(groups=groups, scale=scale).eval(), ImageSpec(224, 224))
    assert found.macs == pytest.approx(PUBLISHED[groups, scale] * 1e6, rel=0.012)


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5, 2.0])
def test_every_pair_of_groups_and_scale_runs(groups: int, scale: float) -> None:
    network = shufflenet_v1(num_classes=5, groups=groups, scale=scale, stem_stride=1).eval()
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 32, 32)).shape == (1, 5)


# The authors' table has 1.9, 0.7, 3.4 and 5.4 M (3 groups), 2.4 and 1.0 M (8 groups).
@pytest.mark.parametrize(
    ("groups", "scale", "parameters"),
    [
        (3, 1.0, 1_865_728),
        (3, 0.5, 718_324),
        (3, 1.5, 3_442_168),
        (3, 2.0, 5_450_776),
        (8, 1.0, 2_434_768),
        (8, 0.5, 1_011_448),
    ],
)
def test_parameters(groups: int, scale: float, parameters: int) -> None:
    network = shufflenet_v1(groups=groups, scale=scale)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_the_first_1x1_of_stage_2_is_not_grouped() -> None:
    convolutions = [
        module
        for module in shufflenet_v1(groups=4).stages.modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)
    ]
    assert [c.groups for c in convolutions] == [1] + [4] * (2 * 16 - 1)


@pytest.mark.parametrize(("groups", "scale"), [(5, 1.0), (3, 0.75)])
def test_an_unknown_pair_is_refused_with_the_choices(groups: int, scale: float) -> None:
    with pytest.raises(ValueError, match=r"\(1, 2, 3, 4, 8\), .* \(0\.5, 1\.0, 1\.5, 2\.0\)"):
        shufflenet_v1(groups=groups, scale=scale)


def test_shuffle_deals_the_groups_out_in_turn() -> None:
    x = torch.arange(9.0).reshape(1, 9, 1, 1)
    assert channel_shuffle(x, 3).flatten().tolist() == [0, 3, 6, 1, 4, 7, 2, 5, 8]
    assert torch.equal(channel_shuffle(channel_shuffle(x, 3), 3), x)


def reached(unit: ShuffleUnit) -> int:
    """Over how many of its 64 inputs the unit's first output is computed, skip aside."""
    x = torch.rand(1, 64, 5, 5, requires_grad=True)
    (unit(x) - x)[0, 0].sum().backward()
    assert x.grad is not None
    return int((x.grad[0].flatten(1).abs().sum(dim=1) > 0).sum())


def test_shuffle_lets_every_group_see_every_input() -> None:
    torch.manual_seed(0)
    unit = ShuffleUnit(64, 64, stride=1, groups=4, first_groups=4)
    assert reached(unit) == 64
    unit.groups = 1  # leaves the shuffle out; the convolutions stay grouped
    assert reached(unit) == 16


def test_joining_before_or_after_relu_is_the_same() -> None:
    torch.manual_seed(0)
    unit = ShuffleUnit(24, 48, stride=2, groups=3, first_groups=1).eval()
    with torch.inference_mode():
        y = unit(torch.rand(1, 24, 8, 8))  # not negative, as behind a ReLU
        assert torch.equal(y, y.relu())
