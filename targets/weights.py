"""Weights that the quantiser left in float behind a quantise-dequantise pair, made integers.

get_attr weight -> quantize_per_channel -> dequantize_per_channel -> conv     before
get_attr weight_int8 -------------------> dequantize_per_channel -> conv      after `fold`
get_attr weight_stands_for -------------------------------------> conv        after `bake`
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, fx


@dataclass(frozen=True, slots=True)
class Integers:
    """A weight that `bake` folded."""

    values: Tensor
    """(O, ...) int8, whatever the bits."""
    scales: Tensor
    """(O,) float32."""
    real: Tensor
    """(O, ...) float32: `values * scales`, as torch's dequantisation gives them."""
    bits: int
    """8 or 4."""


def fold(module: fx.GraphModule) -> None:
    """Fold every quantize_per_channel of a constant, in place."""
    quantize = torch.ops.quantized_decomposed.quantize_per_channel.default
    for node in [n for n in module.graph.nodes if n.target is quantize]:
        name = str(node.args[0].target).replace(".", "_")
        _replace(module, node, f"{name}_int8", _called(module, node, quantize))
    module.graph.eliminate_dead_code()
    module.recompile()


def bake(module: fx.GraphModule) -> list[Integers]:
    """Fold every pair into the float weight that it stands for, in place; gives its integers."""
    quantize = torch.ops.quantized_decomposed.quantize_per_channel.default
    dequantize = torch.ops.quantized_decomposed.dequantize_per_channel.default
    fold(module)
    baked = []
    for node in [n for n in module.graph.nodes if n.target is dequantize]:
        values, scales = (constant(module, a) for a in node.args[:2])
        real = _called(module, node, dequantize)
        largest = node.args[5]
        baked.append(Integers(values, scales, real, bits=int(largest).bit_length() + 1))
        _replace(module, node, f"{str(node.args[0].target)[: -len('_int8')]}_stands_for", real)
    assert not any(n.target is quantize for n in module.graph.nodes)
    module.graph.eliminate_dead_code()
    module.recompile()
    return baked


def constant(module: fx.GraphModule, node: fx.Node) -> Tensor:
    """The tensor that a `get_attr` node stands for."""
    assert node.op == "get_attr", f"{node} is not a constant"
    value: object = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    assert isinstance(value, Tensor)
    return value.detach()


def _called(module: fx.GraphModule, node: fx.Node, target: Callable[..., Tensor]) -> Tensor:
    return target(*(constant(module, a) if isinstance(a, fx.Node) else a for a in node.args))


def _replace(module: fx.GraphModule, node: fx.Node, name: str, value: Tensor) -> None:
    module.register_buffer(name, value)
    with module.graph.inserting_before(node):
        made = module.graph.get_attr(name)
    made.meta = dict(node.meta)
    node.replace_all_uses_with(made)
    module.graph.erase_node(node)
