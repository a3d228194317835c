"""Forms that integer kernels have: exact rewrites of a graph before and after quantising."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from edgekit.lower.export import ACTIVATIONS, aten

CONVOLUTIONS = {aten.conv2d.default, aten.linear.default}
HARD_SWISHES = {aten.hardswish.default, aten.hardswish_.default}


def integer_forms(model: fx.GraphModule) -> None:
    """All that comes before quantising, in place; a second time changes nothing."""
    make_padding_explicit(model)
    split_hard_swishes(model)
    fold_hard_sigmoids(model)


def in_integer_forms(program: ExportedProgram, pixels: torch.Tensor) -> ExportedProgram:
    """A copy of `program`, exported anew; `pixels` are an example, (1, H, W, 3) uint8."""
    module = copy.deepcopy(program.module(check_guards=False))  # weights change with their layers
    integer_forms(module)
    return torch.export.export(module, (pixels,))


def make_padding_explicit(model: fx.GraphModule) -> None:
    """conv(x, padding=p, stride>1) -> conv(pad(x, p), padding=0), so that padding is quantised.

    Padding that is given by name (`same`, `valid`) becomes numbers.
    TFLite's strided convolutions pad on one side only; its converter would otherwise put a float
    padding between the quantised operators. ONNX folds the padding back into the convolution.
    """
    graph, conv = model.graph, aten.conv2d.default
    for node in [n for n in graph.nodes if n.target in (conv, aten.conv2d.padding)]:
        names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
        default = dict(zip(names[2:], (None, [1, 1], [0, 0], [1, 1], 1), strict=True))
        given = default | dict(zip(names, node.args, strict=False)) | node.kwargs
        top, bottom, left, right = _sides(given)
        if (top, left) == (bottom, right) and (max(given["stride"]) == 1 or not any((top, left))):
            given["padding"] = [top, left]
        else:
            source, amount = given["input"], [left, right, top, bottom]
            with graph.inserting_before(node):
                padded = graph.call_function(aten.pad.default, (source, amount))
            padded.meta = dict(source.meta)
            padded.meta["val"] = aten.pad.default(source.meta["val"], amount)
            given |= {"input": padded, "padding": [0, 0]}
        node.target, node.args, node.kwargs = conv, tuple(given[name] for name in names), {}
    graph.lint()
    model.recompile()


def split_hard_swishes(model: fx.GraphModule) -> None:
    """hard_swish(x) -> x * clamp(x/6 + 1/2, 0, 1), of a depthwise 1x1 convolution and a product.

    Exact (MobileNetV3, section 5.2). XNNPACK has no integer hard-swish: the interpreter's own takes
    longer than the rest of MobileNetV3, cuts the delegate's graph in pieces at every one, and
    rounds as no other runtime does. (N, C) becomes (N, C, 1, 1) for it, and back.
    """
    graph = model.graph
    for n, node in enumerate(list(graph.nodes)):
        shape = list(node.meta["val"].shape) if node.target in HARD_SWISHES else []
        if len(shape) not in (2, 4):
            continue
        source, flat = node.args[0], len(shape) == 2
        constants = []
        for name, value in (
            (f"hard_swish_{n}_weight", torch.full((shape[1], 1, 1, 1), 1 / 6)),
            (f"hard_swish_{n}_bias", torch.full((shape[1],), 0.5)),
        ):
            model.register_buffer(name, value)
            with graph.inserting_before(node):
                constants.append(graph.get_attr(name))
            constants[-1].meta = {"val": value}
        planes = [*shape, 1, 1] if flat else shape
        with graph.inserting_before(node):
            if flat:
                source = _made(graph, node, aten.reshape.default, (source, planes), planes)
            conv = _made(
                graph, node, aten.conv2d.default,
                (source, *constants, [1, 1], [0, 0], [1, 1], shape[1]), planes,
            )  # fmt: skip
            gate = _made(graph, node, aten.hardtanh.default, (conv, 0.0, 1.0), planes)
            if flat:
                product = _made(graph, node, aten.mul.Tensor, (source, gate), planes)
        node.target, node.args = aten.mul.Tensor, (source, gate)
        if flat:
            node.target, node.args = aten.reshape.default, (product, shape)
    graph.lint()
    model.recompile()


def _made(
    graph: fx.Graph, like: fx.Node, target: Callable[..., Any], arguments: tuple[Any, ...],
    shape: list[int],
) -> fx.Node:  # fmt: skip
    """A call that gives what `like` gives, in another shape."""
    node = graph.call_function(target, arguments)
    node.meta = {**like.meta, "val": like.meta["val"].reshape(shape)}
    return node


def fold_hard_sigmoids(model: fx.GraphModule) -> None:
    """hard_sigmoid(w x + b) -> clamp(w/6 x + b/6 + 1/2, 0, 1): a layer with a fused activation.

    Exact: hard_sigmoid(y) = clamp(y/6 + 1/2, 0, 1) (MobileNetV3, section 5.2). TFLite has no
    operator for it, so its converter would leave float arithmetic between the integers.
    """
    for node, layer in hard_sigmoid_layers(model.graph):
        for source, shift in zip(layer.args[1:3], (0.0, 0.5), strict=True):
            assert isinstance(source, fx.Node)
            owner, _, name = str(source.target).rpartition(".")
            getattr(model.get_submodule(owner), name).data.div_(6).add_(shift)
        node.target, node.args = aten.hardtanh.default, (layer, 0.0, 1.0)
    model.graph.lint()
    model.recompile()


def hard_sigmoid_layers(graph: fx.Graph) -> list[tuple[fx.Node, fx.Node]]:
    """Each hard sigmoid that can become part of the layer before it, and that layer."""
    found = []
    for node in [n for n in graph.nodes if n.target is aten.hardsigmoid.default]:
        layer = node.args[0]
        if layer.target not in CONVOLUTIONS or len(layer.users) > 1 or len(layer.args) < 3:
            continue
        constants = layer.args[1:3]
        if any(c is None or c.op != "get_attr" or len(c.users) > 1 for c in constants):
            continue
        found.append((node, layer))
    return found


def drop_clips(model: fx.GraphModule) -> None:
    """clamp(x, 0, 1) -> quantize(1/255, -128)  =>  quantize(1/255, -128), which clips as much."""
    quantize = torch.ops.quantized_decomposed.quantize_per_tensor.default
    for node in [n for n in model.graph.nodes if n.target is quantize]:
        clip = node.args[0]
        fits = abs(node.args[1] * 255 - 1) < 1e-6 and node.args[2] == -128
        if fits and clip.target in ACTIVATIONS and clip.args[1:] == (0.0, 1.0):
            node.replace_input_with(clip, clip.args[0])
    model.graph.eliminate_dead_code()
    model.recompile()


def get_constant(model: fx.GraphModule, node: object) -> torch.Tensor:
    """The parameter or buffer that a `get_attr` node names."""
    assert isinstance(node, fx.Node)
    assert node.op == "get_attr"
    owner, _, name = str(node.target).rpartition(".")
    value = getattr(model.get_submodule(owner), name)
    assert isinstance(value, torch.Tensor)
    return value.detach()


def set_constant(
    model: fx.GraphModule, node: object, value: torch.Tensor, users: set[fx.Node]
) -> None:
    """Change a constant for `users`; who else reads it keeps the one that was.

    Args:
        model: changed in place.
        node: the `get_attr` node that names the constant.
        value: of the same shape; takes the dtype of what it replaces.
        users: nodes that take `node`.
    """
    assert isinstance(node, fx.Node)
    owner, _, name = str(node.target).rpartition(".")
    module, old = model.get_submodule(owner), get_constant(model, node)
    same = [n for n in model.graph.nodes if n.op == "get_attr" and n.target == node.target]
    if {user for n in same for user in n.users} <= users:
        # Not written into: a program that this module was made of may hold the same memory.
        new_value = value.to(old.dtype)
        if name in module._parameters:
            module._parameters[name] = torch.nn.Parameter(new_value, requires_grad=False)
        else:
            module.register_buffer(name, new_value)
        return
    while hasattr(module, name):
        name += "_"
    module.register_buffer(name, value.to(old.dtype))
    with model.graph.inserting_before(next(n for n in model.graph.nodes if n in users)):
        new = model.graph.get_attr(f"{owner}.{name}".lstrip("."))
    new.meta = dict(node.meta)
    for user in users:
        user.replace_input_with(node, new)


def _sides(given: dict[str, Any]) -> tuple[int, int, int, int]:
    """Top, bottom, left and right padding of a convolution's arguments."""
    padding = given["padding"]
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":
        kernel = given["weight"].meta["val"].shape[2:]
        tall, wide = (d * (k - 1) for d, k in zip(given["dilation"], kernel, strict=True))
        return tall // 2, tall - tall // 2, wide // 2, wide - wide // 2
    height, width = padding
    return height, height, width, width
