"""Rewrite an exported program so that it takes what Core ML's image input gives.

    image uint8 (1, H, W, 3) -> permute -> cast -> ...      =>      image float (1, 3, H, W) -> ...

Both are 0 to 255. Whatever else reads the camera's pixels gets them permuted and cast back.
"""

from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

aten = torch.ops.aten
quantized = torch.ops.quantized_decomposed


def for_core_ml(
    program: ExportedProgram, shape: tuple[int, ...], probabilities: bool
) -> ExportedProgram:
    """The program for coremltools: an image's planes in, weights folded to integers.

    Args:
        program: float, or quantised in PT2E's reference form.
        shape: of its input, (1, H, W, 3).
        probabilities: softmax of the first output becomes a further one.
    """
    module = program.module(check_guards=False)
    _fold_weights(module)
    graph = module.graph
    _take_planes(graph)
    _spell_shuffles(graph)
    _end(graph, probabilities)
    graph.set_codegen(fx.graph.CodeGen())  # plain: one tensor in, a tuple out
    graph.eliminate_dead_code()
    graph.lint()
    _, height, width, channels = shape
    planes = torch.zeros(1, channels, height, width)
    changed = torch.export.export(fx.GraphModule(module, graph), (planes,))
    plain: ExportedProgram = changed.run_decompositions({})
    return plain


def _take_planes(graph: fx.Graph) -> None:
    (image,) = (node for node in graph.nodes if node.op == "placeholder")
    for node in list(graph.nodes):
        if node.target is aten._assert_tensor_metadata.default:  # says uint8, which it was
            graph.erase_node(node)
    readers = list(image.users)
    for permuted in [node for node in readers if _permutes(node)]:
        for cast in [node for node in permuted.users if _casts(node)]:
            cast.replace_all_uses_with(image)
            graph.erase_node(cast)
    for permuted in readers:
        if not permuted.users:
            graph.erase_node(permuted)
    if others := [node for node in readers if node.users and node in image.users]:
        with graph.inserting_after(image):
            pixels = graph.call_function(aten.permute.default, (image, [0, 2, 3, 1]))
        with graph.inserting_after(pixels):
            back = graph.call_function(aten.to.dtype, (pixels, torch.uint8))
        for node in others:
            node.replace_input_with(image, back)


def _permutes(node: fx.Node) -> bool:
    return node.target is aten.permute.default and list(node.args[1]) == [0, 3, 1, 2]  # type: ignore[arg-type]


def _casts(node: fx.Node) -> bool:
    return node.target is aten.to.dtype and node.args[1] is torch.float32


def _spell_shuffles(graph: fx.Graph) -> None:
    """channel_shuffle(x, g) -> (n, g, c/g, h, w) -> (n, c/g, g, h, w), which coremltools knows."""
    for node in [n for n in graph.nodes if n.target is aten.channel_shuffle.default]:
        source, groups = node.args
        n, c, *rest = (int(size) for size in source.meta["val"].shape)
        with graph.inserting_before(node):
            apart = graph.call_function(
                aten.reshape.default, (source, [n, groups, c // groups, *rest])
            )
            swapped = graph.call_function(aten.transpose.int, (apart, 1, 2))
            whole = graph.call_function(aten.reshape.default, (swapped, [n, c, *rest]))
        node.replace_all_uses_with(whole)
        graph.erase_node(node)


def _end(graph: fx.Graph, probabilities: bool) -> None:
    """A flat tuple of outputs, no node twice: the converter names what a node gives."""
    (end,) = (node for node in graph.nodes if node.op == "output")
    given: Any = end.args[0]
    outputs = list(given) if isinstance(given, (list, tuple)) else [given]
    with graph.inserting_before(end):
        if probabilities:
            outputs.append(graph.call_function(aten.softmax.int, (outputs[0], -1)))
        for index, node in enumerate(outputs):
            if node in outputs[:index]:
                outputs[index] = graph.call_function(aten.clone.default, (node,))
    end.args = (tuple(outputs),)


def _fold_weights(module: fx.GraphModule) -> None:
    """quantize_per_channel(weight) -> the int8 weight itself."""
    quantize = quantized.quantize_per_channel.default
    for node in [n for n in module.graph.nodes if n.target is quantize]:
        arguments = [_constant(module, a) if isinstance(a, fx.Node) else a for a in node.args]
        name = f"{str(node.args[0].target).replace('.', '_')}_int8"
        module.register_buffer(name, quantize(*arguments))
        with module.graph.inserting_before(node):
            folded = module.graph.get_attr(name)
        node.replace_all_uses_with(folded)
        module.graph.erase_node(node)


def _constant(module: fx.GraphModule, node: fx.Node) -> torch.Tensor:
    assert node.op == "get_attr", f"{node} is not a constant"
    owner, _, name = str(node.target).rpartition(".")
    value = getattr(module.get_submodule(owner), name)
    assert isinstance(value, torch.Tensor)
    return value.detach()
