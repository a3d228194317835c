"""Reading an int8 graph: the quantise-dequantise pairs between its layers.

quantize -> dequantize -> layer -> (activation) -> quantize -> dequantize -> ...
"""

from typing import TypeGuard

import torch
from torch import fx

from edgekit.lower.export import ACTIVATIONS, aten

quantized = torch.ops.quantized_decomposed
QUANTIZE = quantized.quantize_per_tensor.default
DEQUANTIZE = quantized.dequantize_per_tensor.default

TURNING = {
    aten.permute.default,
    aten.transpose.int,
    aten.unflatten.int,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
    aten.pixel_shuffle.default,
    aten.pixel_unshuffle.default,
}
"""The same numbers in another order; of the camera's pixels, too, which are integers already."""
SHARING = {
    aten.max_pool2d.default,
    aten.avg_pool2d.default,
    aten.pad.default,
    aten.flatten.using_ints,
    aten.view.default,
    aten.reshape.default,
    aten.slice.Tensor,
    aten.channel_shuffle.default,
} | TURNING
"""What gives the numbers that it takes: one scale and one zero point for both."""


def maker_of(quantize: fx.Node) -> fx.Node:
    """The operator whose result `quantize` takes, before the activation that is fused to it."""
    node = quantize.args[0]
    assert isinstance(node, fx.Node)
    while node.target in ACTIVATIONS:
        node = node.args[0]
        assert isinstance(node, fx.Node)
    return node


def operands_of(node: fx.Node) -> list[fx.Node]:
    """A layer's input; both terms or factors; all that is concatenated."""
    given = node.args[0] if node.args else None
    if isinstance(given, (list, tuple)):
        return [a for a in given if isinstance(a, fx.Node)]
    count = 2 if node.target in (aten.add.Tensor, aten.mul.Tensor) else 1
    return [a for a in node.args[:count] if isinstance(a, fx.Node)]


def result_of(layer: fx.Node) -> fx.Node | None:
    """The node that quantises what a layer gives; None if its users are several, or float."""
    node = layer
    while len(node.users) == 1:
        node = next(iter(node.users))
        if node.target is QUANTIZE:
            return node
        if node.target not in ACTIVATIONS:
            break
    return None


def weights_of(layer: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """The nodes that quantise and dequantise a layer's weights channel by channel."""
    dequantize = layer.args[1]
    if not calls(dequantize, quantized.dequantize_per_channel.default):
        return None
    quantize = dequantize.args[0]
    return (
        (quantize, dequantize) if calls(quantize, quantized.quantize_per_channel.default) else None
    )


def calls(node: object, target: object) -> TypeGuard[fx.Node]:
    """Whether `node` is a call of `target`."""
    return isinstance(node, fx.Node) and node.target is target


def scale_of(node: fx.Node) -> float:
    """Of a quantize_per_tensor or dequantize_per_tensor node."""
    scale = node.args[1]
    assert isinstance(scale, float)
    return scale


def layer_name(layer: fx.Node) -> str:
    """`features.0.0` of a convolution or linear layer, from its weight's name."""
    weight = layer.args[1]
    while isinstance(weight, fx.Node) and weight.op == "call_function":
        weight = weight.args[0]
    name = str(weight.target if isinstance(weight, fx.Node) else weight)
    return name.removeprefix("network.").removesuffix(".weight")
