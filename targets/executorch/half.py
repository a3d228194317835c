"""float16 from end to end: XNNPACK has no form with float16 weights and float32 arithmetic."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx

aten = torch.ops.aten
PAIRS = (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor)


def halve(module: fx.GraphModule) -> None:
    """float32 -> float16 throughout, but for the outputs, which are cast back."""
    _hold_numbers(module)
    module.half()
    for node in module.graph.nodes:
        if node.op == "call_function":
            node.args = tuple(_half(a) for a in node.args)
            node.kwargs = {name: _half(a) for name, a in node.kwargs.items()}
    (output,) = (n for n in module.graph.nodes if n.op == "output")
    with module.graph.inserting_before(output):
        output.args = (fx.map_arg(output.args[0], _single),)
    module.recompile()


def _hold_numbers(module: fx.GraphModule) -> None:
    """`x + 3.0` => `x + a buffer`: ExecuTorch casts a number from float32 in each run."""
    for node in [n for n in module.graph.nodes if n.target in PAIRS]:
        if isinstance(node.args[1], (int, float)):
            name = f"number_{node.name}"
            module.register_buffer(name, torch.tensor(float(node.args[1])))
            with module.graph.inserting_before(node):
                node.args = (node.args[0], module.graph.get_attr(name), *node.args[2:])


def _half(argument: Any) -> Any:
    return torch.float16 if argument is torch.float32 else argument


def _single(value: fx.Node) -> fx.Node:
    return value.graph.call_function(aten.to.dtype, (value, torch.float32))


@contextmanager
def weights_as_given() -> Iterator[None]:
    """While the block lasts, a convolution's float16 weights are stored as such.

    ExecuTorch 1.5 asks for float32 there, though XNNPACK's float16 convolutions take both, and
    compute the same; the file would be two thirds larger.
    """
    from executorch.backends.xnnpack.operators.node_visitor import NodeVisitor

    define = NodeVisitor.define_tensor

    def as_given(self: Any, tensor: fx.Node, *args: Any, **kwargs: Any) -> None:
        if tensor.meta["val"].dtype is torch.float16:
            kwargs.pop("force_fp32", None)
        define(self, tensor, *args, **kwargs)

    NodeVisitor.define_tensor = as_given
    try:
        yield
    finally:
        NodeVisitor.define_tensor = define
