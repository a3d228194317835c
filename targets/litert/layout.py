"""Teach litert-torch's layout pass two operators, so that they need no transposes around them.

PyTorch's tensors are (N, C, H, W), TFLite's (N, H, W, C). The converter moves the whole network to
the latter, but leaves in the former, between two transposes, what it does not know:

- zero padding: the same amounts, in the other order (litert-torch 0.10 knows mirroring alone);
- channel shuffle: in TFLite's order one transpose of the last two of (N, H, W, groups, C / groups).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten


@torch.library.custom_op("edgekit::channel_shuffle", mutates_args=())
def shuffle(x: Tensor, groups: int) -> Tensor:
    """(N, C, H, W), opaque to the converter until its layout pass has asked for the other form."""
    shuffled: Tensor = aten.channel_shuffle.default(x, groups)
    return shuffled.contiguous()


@shuffle.register_fake
def _(x: Tensor, groups: int) -> Tensor:
    return torch.empty_like(x)


def hide_shuffles(module: fx.GraphModule) -> int:
    """channel_shuffle -> the operator above, in place; returns how many there are."""
    found = [n for n in module.graph.nodes if n.target is aten.channel_shuffle.default]
    for node in found:
        node.target = torch.ops.edgekit.channel_shuffle.default
    module.recompile()
    return len(found)


@contextmanager
def taught() -> Iterator[None]:
    """While the block lasts, the converter knows the two; through a registry that is not public."""
    from litert_torch._convert.fx_passes.optimize_layout_transposes_pass import layout_rewrite

    rules: dict[Any, Callable[[fx.Node], None]] = {
        aten.constant_pad_nd.default: _pad,
        torch.ops.edgekit.channel_shuffle.default: _shuffle,
    }
    ours = {op: rule for op, rule in rules.items() if op not in layout_rewrite.rewriters}
    layout_rewrite.rewriters.update(ours)
    try:
        yield
    finally:
        for op in ours:
            del layout_rewrite.rewriters[op]


def _pad(node: fx.Node) -> None:
    amounts = node.args[1]
    assert isinstance(amounts, (list, tuple))
    left, right, top, bottom, first, last, *batch = [*amounts, *[0] * 8][:8]
    moved = [first, last, left, right, top, bottom, *batch]
    node.args = (node.args[0], moved, *node.args[2:])


def _shuffle(node: fx.Node) -> None:
    def shuffled(x: Tensor, groups: int) -> Tensor:
        n, h, w, c = x.shape
        return x.view(n, h, w, groups, c // groups).transpose(3, 4).reshape(n, h, w, c)

    node.target = shuffled
