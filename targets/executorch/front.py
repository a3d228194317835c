"""Bring an exported module into the form of which XNNPACK takes the most.

XNNPACK has no kernel that takes uint8 and gives float. That one cast stays outside of it, and
stands first, so that all the rest is one partition.
"""

import torch
from torch import fx

aten = torch.ops.aten
quantized = torch.ops.quantized_decomposed
HARD_SIGMOIDS = (aten.hardsigmoid.default, aten.hardsigmoid_.default)
SILUS = (aten.silu.default, aten.silu_.default)
LARGEST = torch.finfo(torch.float32).max


def cast_first(module: fx.GraphModule) -> None:
    """Cast the camera's pixels before their axes are moved.

        image -> permute -> to float -> [q -> dq] -> conv                          before
        image -> to float -> [q -> dq] -> permute -> [q -> dq] -> conv             after

    An int8 permutation moves a quarter of the bytes; dq -> op -> q is how XNNPACK knows it.
    """
    graph = module.graph
    for node in list(graph.nodes):
        if node.target is aten._assert_tensor_metadata.default:
            graph.erase_node(node)
    for move in [n for n in graph.nodes if n.op == "call_function" and _moves_pixels(n)]:
        casts = list(move.users)
        if len(casts) == 1 and casts[0].target is aten.to.dtype:
            _swap(graph, move, casts[0])
    graph.lint()
    module.recompile()


def _moves_pixels(node: fx.Node) -> bool:
    return node.target is aten.permute.default and node.args[0].op == "placeholder"  # type: ignore[union-attr]


def _swap(graph: fx.Graph, move: fx.Node, cast: fx.Node) -> None:
    pixels = move.args[0]
    assert isinstance(pixels, fx.Node)
    cast.replace_input_with(move, pixels)
    pair = _pair(cast)
    last = pair[-1] if pair else cast
    readers = list(last.users)
    with graph.inserting_after(last):
        moved = graph.call_function(aten.permute.default, (last, move.args[1]))
    for old in pair:
        with graph.inserting_after(moved):
            moved = graph.call_function(old.target, (moved, *old.args[1:]))  # type: ignore[arg-type]
    for reader in readers:
        reader.replace_input_with(last, moved)
    graph.erase_node(move)


def _pair(cast: fx.Node) -> list[fx.Node]:
    """The quantise and dequantise that alone take the cast's result; empty if there are none."""
    kinds = (quantized.quantize_per_tensor.default, quantized.dequantize_per_tensor.default)
    found: list[fx.Node] = []
    for kind in kinds:
        users = list((found[-1] if found else cast).users)
        if len(users) != 1 or users[0].target is not kind:
            return []
        found.append(users[0])
    return found


def spell_gates(module: fx.GraphModule) -> None:
    """Hard sigmoid and SiLU, of which XNNPACK has the parts, in these parts.

        hardsigmoid(x)  =>  clamp(x + 3, 0, 6) / 6
        silu(x)         =>  x * sigmoid(x)

    ExecuTorch's own decompositions cast a constant, or in float16 all of x, outside of XNNPACK.
    """
    graph = module.graph
    for node in [n for n in graph.nodes if n.target in HARD_SIGMOIDS + SILUS]:
        x = node.args[0]
        with graph.inserting_before(node):
            if node.target in SILUS:
                sigmoid = graph.call_function(aten.sigmoid.default, (x,))
                spelt = graph.call_function(aten.mul.Tensor, (x, sigmoid))
            else:
                moved = graph.call_function(aten.add.Tensor, (x, 3.0))
                clamped = graph.call_function(aten.hardtanh.default, (moved, 0.0, 6.0))
                spelt = graph.call_function(aten.div.Tensor, (clamped, 6.0))
        node.replace_all_uses_with(spelt)
        graph.erase_node(node)
    module.recompile()


def keep_axes(module: fx.GraphModule) -> None:
    """Mean over height and width without them => with them, then a view: XNNPACK's one form.

    x -> mean -> [q]                                                           before
    x -> mean(keepdim) -> [q -> dq] -> view -> [q]                             after
    """
    graph = module.graph
    for node in [n for n in graph.nodes if n.target is aten.mean.dim and _drops_axes(n)]:
        users = list(node.users)
        with graph.inserting_before(node):
            kept = graph.call_function(aten.mean.dim, (*node.args[:2], True))
            if len(users) == 1 and users[0].target is quantized.quantize_per_tensor.default:
                for target in (users[0].target, quantized.dequantize_per_tensor.default):
                    kept = graph.call_function(target, (kept, *users[0].args[1:]))
            flat = graph.call_function(aten.view.default, (kept, list(node.meta["val"].shape)))
        node.replace_all_uses_with(flat)
        graph.erase_node(node)
    module.recompile()


def _drops_axes(node: fx.Node) -> bool:
    source, axes, *rest = node.args
    assert isinstance(source, fx.Node)
    assert isinstance(axes, (list, tuple))
    rank = source.meta["val"].dim()
    return rank == 4 and sorted(a % 4 for a in axes) == [2, 3] and not any(rest)  # type: ignore[operator]


def free_outputs(module: fx.GraphModule) -> None:
    """A dequantised map that is an output gets a dequantisation, and an operator, of its own.

        q -> dq -> output                                                          before
        q -> dq -> clamp to all of float32 -> output                               after

    ExecuTorch 1.5 moves such an output back to (N, C, H, W) between two tensors of which it takes
    one for int8 and one for float, and XNNPACK refuses that when it runs.
    """
    graph = module.graph
    (output,) = (n for n in graph.nodes if n.op == "output")

    def freed(value: fx.Node) -> fx.Node:
        if value.target is not quantized.dequantize_per_tensor.default:
            return value
        if "val" not in value.meta or value.meta["val"].dim() != 4:
            return value
        real = graph.call_function(quantized.dequantize_per_tensor.default, value.args)
        return graph.call_function(aten.hardtanh.default, (real, -LARGEST, LARGEST))

    with graph.inserting_before(output):
        output.args = (fx.map_arg(output.args[0], freed),)
    module.recompile()
