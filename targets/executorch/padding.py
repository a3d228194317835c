"""Padding that stands before a convolution becomes the convolution's own, which costs nothing."""

from typing import Any

import torch
import torchao.quantization.pt2e.quantize_pt2e  # noqa: F401  registers quantized_decomposed
from torch import fx

aten = torch.ops.aten
QUANTISE = torch.ops.quantized_decomposed.quantize_per_tensor.default
DEQUANTISE = torch.ops.quantized_decomposed.dequantize_per_tensor.default
PADS = (aten.pad.default, aten.constant_pad_nd.default)
DEFAULTS = (None, [1, 1], [0, 0])
"""Bias, stride and padding of `aten.conv2d`, where they are left out."""


def fold(module: fx.GraphModule) -> None:
    """Zeros, the same on both sides, as ExecuTorch's convolutions have them; in place.

        x -> pad -> conv                     =>  x -> conv(padding)
        dq -> pad -> q -> dq -> conv         =>  dq -> conv(padding)

    Exact: padding shares its input's scale, and real zero is an integer of it.
    """
    graph = module.graph
    for node in [n for n in graph.nodes if n.target is aten.conv2d.default]:
        pad = _pad_above(node)
        amounts = _symmetric(pad) if pad is not None else None
        if pad is None or amounts is None:
            continue
        source: Any = pad.args[0]
        if source.target is DEQUANTISE:  # one of its own, as every reader of an integer has
            with graph.inserting_before(node):
                source = graph.call_function(DEQUANTISE, source.args)
        arguments = [*node.args, *DEFAULTS[max(len(node.args) - 2, 0) :]]
        arguments[0] = source
        arguments[4] = [a + b for a, b in zip(arguments[4], amounts, strict=True)]
        node.args = tuple(arguments)
    graph.eliminate_dead_code()
    module.recompile()


def _pad_above(node: fx.Node) -> fx.Node | None:
    """The padding that a convolution reads, through a pair of the padding's own input's scale."""
    above: Any = node.args[0]
    if above.target in PADS:
        return above  # type: ignore[no-any-return]
    if above.target is not DEQUANTISE or above.args[0].target is not QUANTISE:
        return None
    pad = above.args[0].args[0]
    if pad.target not in PADS or pad.args[0].target is not DEQUANTISE:
        return None
    same = pad.args[0].args[1:] == above.args[0].args[1:] == above.args[1:]
    return pad if same else None


def _symmetric(pad: fx.Node) -> tuple[int, int] | None:
    """Rows and columns of zeros on either side; None where it is another padding."""
    amounts, mode, value = _padding(pad)
    if mode != "constant" or value or len(amounts) != 4:
        return None
    left, right, top, bottom = amounts
    return (top, left) if left == right >= 0 and top == bottom >= 0 else None


def _padding(pad: fx.Node) -> tuple[list[int], str, float]:
    _, amounts, *rest = pad.args
    if pad.target is aten.constant_pad_nd.default:
        rest = ["constant", *rest]
    mode, value = [*rest, *("constant", None)[len(rest) :]][:2]
    return list(amounts), str(mode), float(value or 0)  # type: ignore[arg-type]
