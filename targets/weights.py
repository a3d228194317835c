"""Weights that quantise() left in float behind a quantise-dequantise pair -> int8 weights.

get_attr weight -> quantize_per_channel -> dequantize_per_channel -> conv     before
get_attr weight_int8 -------------------> dequantize_per_channel -> conv      after
"""

import torch
from torch import fx


def fold(module: fx.GraphModule) -> None:
    """Fold every quantize_per_channel of a constant, in place."""
    quantize = torch.ops.quantized_decomposed.quantize_per_channel.default
    for node in [n for n in module.graph.nodes if n.target is quantize]:
        arguments = [constant(module, a) if isinstance(a, fx.Node) else a for a in node.args]
        name = f"{str(node.args[0].target).replace('.', '_')}_int8"
        module.register_buffer(name, quantize(*arguments))
        with module.graph.inserting_before(node):
            folded = module.graph.get_attr(name)
        folded.meta = dict(node.meta)
        node.replace_all_uses_with(folded)
        module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    module.recompile()


def constant(module: fx.GraphModule, node: fx.Node) -> torch.Tensor:
    """The tensor that a `get_attr` node stands for."""
    assert node.op == "get_attr", f"{node} is not a constant"
    value: object = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    assert isinstance(value, torch.Tensor)
    return value.detach()
