"""One spelling for what PyTorch can say in several ways, before anything is quantised or lowered.

    adaptive_avg_pool2d(x, 1)                       ->  mean(x, (2, 3), keepdim)
    mean(x, (2, 3))                                 ->  mean(x, (2, 3), keepdim) -> view
    view(n, g, c/g, h, w) -> transpose -> view      ->  channel_shuffle(x, g)
    view                                            ->  reshape
    relu_, add_, silu_ ...                          ->  relu, add, silu ...
    chunk, split                                    ->  one slice for each part
    max_pool(x, padding=p), x never negative        ->  max_pool(pad(x, p))
    avg_pool(x, padding=p), padding counted         ->  avg_pool(pad(x, p))
    silu(x)                                         ->  x * sigmoid(x)
    relu6(x), clamp(x + 3, 0, 6) / 6 ...            ->  see `clips`
    amax(x, (2, 3)), adaptive_max_pool2d ...        ->  see `reductions`
    what does not depend on the image               ->  a constant, see `constants`
    dropout, alias, contiguous (in eval mode)       ->  nothing

Exact, all of them. The exporters then leave no shape arithmetic, and the quantiser and every
backend have fewer forms to know.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from edgekit.lower.forms import clips, reductions
from edgekit.lower.forms.constants import fold_constants

aten = torch.ops.aten

NOTHING = {
    aten.alias.default,
    aten.contiguous.default,
}
DROPOUTS = {
    aten.dropout.default,
    aten.dropout_.default,
    aten.feature_dropout.default,
    aten.feature_dropout_.default,
}
VIEWS = {aten.view.default, aten.reshape.default}
SHAPES = VIEWS | {aten.flatten.using_ints, aten.unflatten.int}
SPLITS = {aten.chunk.default, aten.split.Tensor, aten.split_with_sizes.default}
NEVER_NEGATIVE = {aten.relu.default, aten.relu_.default, aten.sigmoid.default}
CLIPS = {aten.hardtanh.default, aten.hardtanh_.default}


def canonical(program: ExportedProgram, pixels: torch.Tensor) -> ExportedProgram:
    """The same program in one spelling.

    Args:
        program: exported in eval mode.
        pixels: (1, H, W, 3) uint8 example.
    """
    if any(_writes_through_a_view(node) for node in program.graph.nodes):
        program = program.run_decompositions({})
    module = program.module(check_guards=False)
    for change in (
        _leave_in_place,
        _drop_nothing,
        reductions.one_spelling,
        _pool_globally,
        _shuffle,
        _slice,
        clips.one_spelling,
        _pad_pools,
        _gate,
    ):
        for node in list(module.graph.nodes):
            change(module.graph, node)
        module.graph.eliminate_dead_code()
        if change is _leave_in_place:
            fold_constants(module)
    module.graph.lint()
    module.recompile()
    return torch.export.export(module, (pixels,))


def _writes_through_a_view(node: fx.Node) -> bool:
    """Whether `node` changes in place what is read under another name, as in `x[:, :3].add_(1)`."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or not target._schema.is_mutable:
        return False
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node):
        return False
    if any(_is_view(user) for user in source.users if user is not node):
        return True
    while _is_view(source):
        above = _source(source)
        if source.target is not operator.getitem and len(above.users) > 1:
            return True
        source = above
    return False


def _is_view(node: fx.Node) -> bool:
    if node.target is operator.getitem or node.target in NOTHING:
        return True
    returns = getattr(getattr(node.target, "_schema", None), "returns", ())
    return any(each.alias_info and not each.alias_info.is_write for each in returns)


def _leave_in_place(graph: fx.Graph, node: fx.Node) -> None:
    """The exporter calls what was changed by its new name from then on: nobody reads the old."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or not target._schema.is_mutable:
        return
    name, overload = target._schema.name.removeprefix("aten::"), target._overloadname
    packet = getattr(aten, name.removesuffix("_"), None) if name.endswith("_") else None
    if packet is not None and overload in packet.overloads() and _source(node).op != "get_attr":
        node.target = getattr(packet, overload)


def _drop_nothing(graph: fx.Graph, node: fx.Node) -> None:
    if node.target in NOTHING or (node.target in DROPOUTS and node.args[2:] == (False,)):
        node.replace_all_uses_with(_source(node))
        graph.erase_node(node)
    elif node.target is aten.view.default:  # may have wanted what was contiguous
        node.target = aten.reshape.default


def _pool_globally(graph: fx.Graph, node: fx.Node) -> None:
    if node.target is aten.adaptive_avg_pool2d.default and _pair(node.args[1]) == (1, 1):
        keeps: Any = True
    elif node.target is aten.mean.dim and isinstance(node.args[1], (list, tuple)):
        keeps = node.args[2] if len(node.args) > 2 else False
    else:
        return
    source = _source(node)
    shape = _shape(source)
    if len(shape) != 4 or node.kwargs:
        return
    if node.target is aten.mean.dim and _axes(node.args[1], 4) not in ([2, 3], [3, 2]):
        return
    if keeps:
        _replace(graph, node, aten.mean.dim, (source, [2, 3], True))
        return
    with graph.inserting_before(node):
        pooled = graph.call_function(aten.mean.dim, (source, [2, 3], True))
    pooled.meta = {**node.meta, "val": source.meta["val"].mean((2, 3), True)}
    _replace(graph, node, aten.reshape.default, (pooled, list(shape[:2])))


def _shuffle(graph: fx.Graph, node: fx.Node) -> None:
    """`node` is the last of view -> transpose(1, 2) -> view."""
    swapped = _source(node) if node.target in SHAPES else None
    if swapped is None or not _swaps_groups(swapped) or len(swapped.users) > 1:
        return
    split = _source(swapped)
    if split.target not in SHAPES or len(split.users) > 1:
        return
    x = _source(split)
    before, apart, after = (_shape(n) for n in (x, split, node))
    if len(before) != 4 or before != after or apart != (before[0], *apart[1:3], *before[2:]):
        return
    _replace(graph, node, aten.channel_shuffle.default, (x, apart[1]))


def _swaps_groups(node: fx.Node) -> bool:
    """(N, groups, C / groups, H, W): the two in the middle change places."""
    if node.target is aten.permute.default:
        return _axes(node.args[1], 5) == [0, 2, 1, 3, 4]
    return node.target is aten.transpose.int and sorted(_axes(node.args[1:], 5)) == [1, 2]


def _slice(graph: fx.Graph, node: fx.Node) -> None:
    if node.target not in SPLITS or any(user.target is not operator.getitem for user in node.users):
        return
    dim = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
    assert isinstance(dim, int)
    dim %= node.meta["val"][0].dim()
    lengths = [int(part.shape[dim]) for part in node.meta["val"]]
    for user in list(node.users):
        part = user.args[1]
        assert isinstance(part, int)
        start = sum(lengths[:part])
        arguments = (_source(node), dim, start, start + lengths[part])
        _replace(graph, user, aten.slice.Tensor, arguments)


def _pad_pools(graph: fx.Graph, node: fx.Node) -> None:
    """A pool's own padding is known to no runtime's quantised kernels, and TFLite has none."""
    most = node.target is aten.max_pool2d.default
    if not most and node.target is not aten.avg_pool2d.default:
        return
    if len(node.args) < 4 or node.kwargs:
        return
    source, kernel, stride, padding, *rest = node.args
    top, left = _pair(padding)
    if not (top or left) or not isinstance(source, fx.Node):
        return
    # What follows: of max_pool dilation and ceil_mode, of avg_pool ceil_mode, count_include_pad.
    plain = not any(rest[1:2]) and _pair(rest[0] if rest else 1) == (1, 1) if most else (
        rest in ([], [False], [False, True])
    )  # fmt: skip
    if not plain or (most and not _never_negative(source)):
        return
    with graph.inserting_before(node):
        padded = graph.call_function(aten.pad.default, (source, [left, left, top, top]))
    padded.meta = {
        **source.meta,
        "val": aten.pad.default(source.meta["val"], [left, left, top, top]),
    }
    node.args = (padded, kernel, stride, [0, 0])


def _gate(graph: fx.Graph, node: fx.Node) -> None:
    if node.target is not aten.silu.default:
        return
    source = _source(node)
    with graph.inserting_before(node):
        gate = graph.call_function(aten.sigmoid.default, (source,))
    gate.meta = dict(node.meta)
    _replace(graph, node, aten.mul.Tensor, (source, gate))


def _never_negative(node: fx.Node) -> bool:
    if node.target in CLIPS:
        return len(node.args) > 1 and node.args[1] in (0, 0.0)
    return node.target in NEVER_NEGATIVE


def _axes(given: Any, dims: int) -> list[int]:
    """Of a tensor of `dims` axes, counted from the front."""
    return [axis % dims for axis in given]


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (value[0], value[-1])


def _replace(
    graph: fx.Graph, node: fx.Node, target: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    with graph.inserting_before(node):
        new = graph.call_function(target, arguments)
    new.meta = dict(node.meta)
    node.replace_all_uses_with(new)
    graph.erase_node(node)


def _source(node: fx.Node) -> fx.Node:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return source


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(int(size) for size in node.meta["val"].shape)
