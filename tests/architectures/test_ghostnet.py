"""GhostNet's module is the paper's, and its graph has nothing that does nothing."""

import pytest
import torch
from torch import nn

from architectures.ghostnet import GhostModule, ghostnet_050, ghostnet_100, ghostnet_130
from edgekit.cost.layers import cost
from edgekit.spec import ImageSpec


@pytest.mark.parametrize(
    ("build", "parameters", "macs"),
    [
        # Table 7 of the paper: 2.6, 5.2 and 7.3 M weights; 42, 141 and 226 M multiply-accumulates.
        (ghostnet_050, 2_587_292, 42e6),
        (ghostnet_100, 5_182_508, 141e6),
        (ghostnet_130, 7_358_820, 226e6),
    ],
)
def test_size_and_arithmetic_are_the_papers(build: object, parameters: int, macs: float) -> None:
    assert callable(build)
    found = cost(build().eval(), ImageSpec(224, 224))
    assert found.parameters == parameters
    assert found.macs == pytest.approx(macs, rel=0.01)


def test_a_ghost_module_costs_about_half() -> None:
    ghost = GhostModule(160, 160, nn.ReLU)
    plain = nn.Conv2d(160, 160, 1, bias=False)
    weights = sum(p.numel() for p in ghost.parameters() if p.ndim == 4)
    assert plain.weight.numel() / weights == pytest.approx(2, rel=0.11)  # s * c / (c + d * d), 1.9


def test_each_ghost_is_made_of_its_own_map() -> None:
    torch.manual_seed(0)
    ghost = GhostModule(4, 8, nn.Identity).eval()
    x = torch.randn(1, 4, 6, 6)
    with torch.inference_mode():
        whole = ghost(x)
        ghost.get_parameter("primary_conv.0.weight")[2] = 0
        changed = (ghost(x) != whole).flatten(2).any(dim=2)[0]
    assert changed.nonzero().flatten().tolist() == [2, 4 + 2]


def test_timms_names() -> None:
    state = ghostnet_100().state_dict()
    shapes = {
        "conv_stem.weight": (16, 3, 3, 3),
        "blocks.0.0.ghost1.primary_conv.0.weight": (8, 16, 1, 1),
        "blocks.0.0.ghost2.cheap_operation.1.running_mean": (8,),
        "blocks.1.0.conv_dw.weight": (48, 1, 3, 3),
        "blocks.3.0.se.conv_reduce.weight": (20, 72, 1, 1),
        "blocks.6.3.shortcut.2.weight": (112, 80, 1, 1),
        "blocks.9.0.bn1.weight": (960,),
        "conv_head.bias": (1280,),
        "classifier.weight": (1000, 1280),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes


def test_no_slice_is_exported() -> None:
    program = torch.export.export(GhostModule(4, 8, nn.ReLU).eval(), (torch.rand(1, 4, 8, 8),))
    calls = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert [call for call in calls if "slice" in call] == []
    assert len([call for call in calls if "cat" in call]) == 1
