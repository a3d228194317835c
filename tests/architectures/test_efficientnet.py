"""What is particular to EfficientNet: stochastic depth, and what Lite drops."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from architectures.efficientnet import (
    SqueezeExcitation,
    StochasticDepth,
    efficientnet_b0,
    efficientnet_lite0,
)


def test_stochastic_depth_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = StochasticDepth(0.25).train()
    found = layer(torch.ones(4000, 2, 3, 3))
    assert found.unique().tolist() == pytest.approx([0, 4 / 3])
    torch.testing.assert_close(found, found[:, :1, :1, :1].expand_as(found))
    assert found.mean() == pytest.approx(1, abs=0.05)


def test_stochastic_depth_does_nothing_in_inference() -> None:
    x = torch.rand(2, 3, 4, 4)
    assert StochasticDepth(0.9).eval()(x) is x
    assert StochasticDepth(0.0).train()(x) is x


@pytest.mark.parametrize("builder", [efficientnet_b0, efficientnet_lite0])
def test_deeper_blocks_are_dropped_more(builder: Callable[..., nn.Module]) -> None:
    with torch.device("meta"):
        network = builder(stochastic_depth=0.2)
    shares = [m.p for m in network.modules() if isinstance(m, StochasticDepth)]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(0.2, rel=0.15)


def test_lite_has_only_what_integer_hardware_has() -> None:
    with torch.device("meta"):
        lite = {type(m) for m in efficientnet_lite0().modules()}
        full = {type(m) for m in efficientnet_b0().modules()}
    assert not lite & {SqueezeExcitation, nn.SiLU, nn.Sigmoid}
    assert full >= {SqueezeExcitation, nn.SiLU, nn.Sigmoid}
    assert nn.ReLU6 in lite


def test_lites_stem_and_head_do_not_scale() -> None:
    with torch.device("meta"):
        state = efficientnet_lite0(width_mult=1.4, depth_mult=1.8).state_dict()
    assert state["conv_stem.weight"].shape[0] == 32
    assert state["conv_head.weight"].shape[0] == 1280
    assert "blocks.0.1.conv_dw.weight" not in state
    assert "blocks.6.1.conv_dw.weight" not in state
