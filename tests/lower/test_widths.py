"""`Card.widths`: what is narrower than its architecture builds it, and what is refused."""

import re
from collections.abc import Mapping

import pytest
import torch
from torch import nn

from edgekit.errors import CheckpointError
from edgekit.lower.widths import apply_widths, merged
from edgekit.plugins import architecture


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 16, 3)
        self.depthwise = nn.Conv2d(16, 16, 3, groups=16)
        self.norm = nn.BatchNorm2d(16)
        self.prelu = nn.PReLU(16)
        self.fc = nn.Linear(16, 4)
        self.extra = 6
        self.flag = True


def test_layers_keep_their_first_channels() -> None:
    built, block = Block(), Block()
    block.load_state_dict(built.state_dict())
    block.norm.weight.requires_grad_(False)
    apply_widths(
        block,
        {
            "conv": {"in_channels": 4, "out_channels": 8},
            "depthwise": {"in_channels": 8, "out_channels": 8, "groups": 8},
            "norm": {"num_features": 8},
            "prelu": {"num_parameters": 8},
            "fc": {"in_features": 8},
            "": {"extra": 0},
        },
    )
    assert torch.equal(block.conv.weight, built.conv.weight[:8, :4])
    assert block.conv.bias is not None
    assert block.conv.bias.shape == (8,)
    assert torch.equal(block.depthwise.weight, built.depthwise.weight[:8])
    assert block.norm.running_var is not None
    assert block.norm.running_var.shape == (8,)
    assert not block.norm.weight.requires_grad
    assert block.extra == 0
    x = block.norm(block.depthwise(block.conv(torch.zeros(1, 4, 9, 9))))
    assert block.fc(block.prelu(x).mean(dim=(2, 3))).shape == (1, 4)
    assert all(isinstance(value, nn.Parameter) for value in block.parameters())


@pytest.mark.parametrize(
    ("widths", "said"),
    [
        ({"none": {"out_channels": 4}}, "a module 'none', which the network does not have"),
        ({"conv": {"filters": 4}}, "filters of 'conv', a Conv2d, which has no such number"),
        ({"conv": {"padding": 4}}, "padding of 'conv'.*it has: in_channels, out_channels, groups"),
        ({"": {"flag": 0}}, "flag of '', a Block, which has no such number"),
        ({"conv": {"out_channels": 17}}, "out_channels=17 of 'conv', which is built with 16"),
        ({"conv": {"out_channels": 0}}, "a pruned layer has 1 to 16"),
        ({"": {"extra": -1}}, "a pruned layer has 0 to 6"),
        ({"depthwise": {"out_channels": 8}}, "16 to 8 channels in 16 groups, which do not divide"),
        ({"depthwise": {"groups": 8}}, r"\(16, 2, 3, 3\).*no more inputs a group"),
    ],
)
def test_widths_that_make_no_sense(widths: Mapping[str, Mapping[str, int]], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        apply_widths(Block(), widths)


def test_what_was_pruned_twice_has_the_last_widths() -> None:
    first = {"a": {"out_channels": 8}, "b": {"in_channels": 8}}
    then = {"b": {"in_channels": 4, "out_channels": 2}, "c": {"extra": 1}}
    assert merged(first, then) == {
        "a": {"out_channels": 8},
        "b": {"in_channels": 4, "out_channels": 2},
        "c": {"extra": 1},
    }
    assert merged({}, then) == then


def test_other_arguments_than_the_widths_are_for() -> None:
    narrow = architecture("mobilenet_v2")(width_mult=0.25)
    assert isinstance(narrow, nn.Module)
    with pytest.raises(CheckpointError, match=re.escape("'features.1.conv.0.0'")):
        apply_widths(narrow, {"features.1.conv.0.0": {"out_channels": 24}})
