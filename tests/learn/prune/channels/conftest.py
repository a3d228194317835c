"""Networks with weights that no part of pruning can do without noticing."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn

from edgekit.learn.prune.channels.compact import Compacted, masked
from edgekit.learn.prune.channels.graph import Flow, follow
from edgekit.learn.prune.channels.groups import Dial, dials, roles
from edgekit.learn.prune.channels.target import Candidates, fit_together
from edgekit.spec import ImageSpec

Law = Callable[..., tuple[Compacted, Flow]]


def settle(module: nn.Module) -> nn.Module:
    """Batch norm as after training: every statistic and shift is another; float64, eval mode."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            if part.affine:
                nn.init.normal_(part.weight, 1, 0.3, generator=generator)
                nn.init.normal_(part.bias, 0, 1, generator=generator)
            part.running_mean.uniform_(-1, 1, generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
        elif isinstance(part, nn.Conv2d) and part.bias is not None:
            nn.init.normal_(part.bias, 0, 0.5, generator=generator)
    return module.double().eval()


@pytest.fixture
def holds() -> Law:
    """Asserts that a compacted network answers as the masked one; its dials are set at random."""

    def hold(
        module: nn.Module, size: tuple[int, int] = (32, 32), multiple: int = 1, seed: int = 0
    ) -> tuple[Compacted, Flow]:
        settle(module)
        flow = follow(module, size)
        turning = dials(flow, (), 0.25, multiple)
        assert turning
        draw = torch.Generator().manual_seed(seed)
        score = {root: float(torch.rand((), generator=draw)) for root in roles(flow)}

        def pick(turning: Sequence[Dial]) -> list[int]:
            chosen = torch.rand(len(turning), generator=draw).tolist()
            return [
                dial.levels[-1 - int(place * max(len(dial.levels) - 1, 1))]
                for dial, place in zip(turning, chosen, strict=True)
            ]

        found = Candidates(module, ImageSpec(*size), flow, tuple(turning), (), score)
        small = fit_together(found, pick)
        agree(module, flow, small, size)
        return small, flow

    return hold


def agree(module: nn.Module, flow: Flow, small: Compacted, size: tuple[int, int]) -> None:
    """Masked and compacted answer the same, and it is the masked channels that are gone."""
    noise = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(2)).double()
    silent = masked(module, flow, small.removed)
    taken: dict[str, torch.Tensor] = {}
    hooks = [
        silent.get_submodule(layer).register_forward_pre_hook(
            lambda _, args, layer=layer: taken.update({layer: args[0]})
        )
        for layer in flow.ins
    ]
    with torch.inference_mode():
        wanted, found = silent(noise), small.module(noise)
    for hook in hooks:
        hook.remove()
    scale = float(wanted.abs().max())
    assert scale > 0
    assert float((wanted - found).abs().max()) <= 1e-5 * scale
    for layer, inputs in taken.items():  # from where they are made to where they are taken
        gone = torch.tensor([root in small.removed for root in flow.roots(flow.ins[layer])])
        dim = -1 if inputs.dim() == 2 else 1
        assert not inputs.movedim(dim, 0)[gone].any(), layer
    assert small.removed
    assert sum(p.numel() for p in small.module.parameters()) < sum(
        p.numel() for p in module.parameters()
    )
