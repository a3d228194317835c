"""Torch-Pruning's dependency graph on the zoo: where it is right, ours couples the same channels.

`docs/pruning.md` has what this finds as a table; where a new release changes one, the table and
`WRONG` change.
"""

import copy
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import nn

from edgekit import plugins
from edgekit.learn.prune.channels.graph import Flow, follow

from .conftest import settle

tp = pytest.importorskip("torch_pruning")

WRONG = {"cifar_resnet20", "shufflenet_v1", "shufflenet_v2_x0_5"}
"""What it does not follow: shortcuts that pad, shuffles before grouped convolutions, splits."""
QUICK = ("cifar_resnet20", "mobilenet_v3_small", "shufflenet_v1", "shufflenet_v2_x0_5")
SLOW = (
    *("efficientnet_b0", "ghostnet_050", "mobilenet_v2", "mobileone_s0"),
    *("mobilenetv4_conv_small", "resnet50", "squeezenet1_1"),
)
NAMES = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
SIDE = 32


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_where_it_is_right_both_couple_the_same(name: str) -> None:
    torch.manual_seed(0)
    module = settle(plugins.architecture(name)(num_classes=10))
    small = copy.deepcopy(module).requires_grad_()
    noise = torch.randn(1, 3, SIDE, SIDE).double()
    flow, same, off = follow(module, (SIDE, SIDE)), False, 1.0
    with suppress(RuntimeError, ZeroDivisionError):
        graph = tp.DependencyGraph().build_dependency(small, example_inputs=noise)
        silent, same = _prune_a_quarter(graph, small, copy.deepcopy(module), flow)
        with torch.inference_mode():
            off = float((silent(noise) - small(noise)).abs().max() / silent(noise).abs().max())
    if name in WRONG:
        assert off > 1e-2
    else:
        assert off < 1e-5
        assert same


@torch.no_grad()
def _prune_a_quarter(
    graph: Any, small: nn.Module, silent: nn.Module, flow: Flow
) -> tuple[nn.Module, bool]:
    """Prune each of its groups, the same in `silent`; whether our channels are the same."""
    names = {part: name for name, part in small.named_modules()}
    last = [part for part in small.modules() if isinstance(part, nn.Linear | nn.Conv2d)][-1]
    same, draw = True, torch.Generator().manual_seed(0)
    kinds = [nn.Conv2d, nn.Linear]
    for group in list(graph.get_all_groups(ignored_layers=[last], root_module_types=kinds)):
        root, prune = group[0][0].target.module, group[0][0].handler
        parts = [dep.target.module for dep, _ in group]
        convs = [part for part in parts if isinstance(part, nn.Conv2d)]
        groups = max([c.groups for c in convs if 1 < c.groups < c.out_channels], default=1)
        per = len(flow.outs[names[root]]) // groups
        order = torch.randperm(per, generator=draw)[: max(per // 4, 1)].sort().values.tolist()
        places = [g * per + i for g in range(groups) for i in order]
        chosen = graph.get_pruning_group(root, prune, places)
        if not graph.check_pruning_group(chosen):
            continue
        gone = {flow.roots(flow.outs[names[root]])[place] for place in places}
        for dep, indices in chosen:
            name = names.get(dep.target.module, "")
            if name in flow.outs and "out" in dep.handler.__name__:
                part = silent.get_submodule(name)
                for tensor in part.parameters(recurse=False):
                    tensor[indices] = 0
                roots = flow.roots(flow.outs[name])
                same &= {roots[index] for index in indices} <= gone
        chosen.prune()
    return silent, same
