"""One spelling for what reduces a map, and for what is spread over it again.

    adaptive_max_pool2d(x, 1), amax(x, (2, 3))      ->  max_pool2d(x, (h, w))
    adaptive_avg_pool2d(x, (h / a, w / b)), also max ->  avg_pool2d(x, (a, b))
    avg_pool2d(x, (h, w))                           ->  mean(x, (2, 3), keepdim)
    x / expand(y, shape of x), also + - *           ->  x / y
    pad(x, [l, r, t, b], "circular")                ->  slices of x, concatenated

Exact. They have integer kernels everywhere. The expansion has to go for LiteRT: where sides
and channels are of one number, litert-torch 0.10 drops a reshape after such an expansion, and
divides along the wrong axis.
"""

import operator

import torch
from torch import fx

aten = torch.ops.aten

POOLS = {aten.adaptive_avg_pool2d.default, aten.adaptive_max_pool2d.default}
EXPANSIONS = {aten.expand.default, aten.expand_as.default}
ELEMENTWISE = {aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor}


def one_spelling(graph: fx.Graph, node: fx.Node) -> None:
    """Change `node`, a call without effect in place, into the plainest of the forms that it is."""
    if node.target in POOLS:
        _pool(graph, node)
    elif node.target is aten.amax.default:
        _greatest(graph, node)
    elif node.target is aten.avg_pool2d.default:
        _average(node)
    elif node.target in EXPANSIONS:
        _drop_expansion(node)
    elif node.target is aten.pad.default and node.args[2:3] == ("circular",):
        _wrap(graph, node)


def _pool(graph: fx.Graph, node: fx.Node) -> None:
    """What divides the map evenly; a maximum's indices must not be asked for."""
    source, size = node.args[0], node.args[1]
    assert isinstance(source, fx.Node)
    map_, result = source.meta["val"].shape, node.meta["val"]
    users = list(node.users)
    if isinstance(result, tuple):
        if any(user.target is not operator.getitem or user.args[1] != 0 for user in users):
            return
        result = result[0]
    if len(map_) != 4 or any(a % b for a, b in zip(map_[2:], result.shape[2:], strict=True)):
        return
    if node.target is aten.adaptive_avg_pool2d.default and tuple(size) == (1, 1):  # type: ignore[arg-type]
        return  # a mean
    kernel = [int(a // b) for a, b in zip(map_[2:], result.shape[2:], strict=True)]
    most = node.target is aten.adaptive_max_pool2d.default
    pool = aten.max_pool2d.default if most else aten.avg_pool2d.default
    with graph.inserting_before(node):
        new = graph.call_function(pool, (source, kernel, kernel))
    new.meta = {**node.meta, "val": result}
    for old in users if isinstance(node.meta["val"], tuple) else [node]:
        old.replace_all_uses_with(new)


def _greatest(graph: fx.Graph, node: fx.Node) -> None:
    source, axes, keeps = [*node.args, [], False][:3] if len(node.args) < 3 else node.args[:3]
    assert isinstance(source, fx.Node)
    shape = source.meta["val"].shape
    if node.kwargs or len(shape) != 4 or sorted(axis % 4 for axis in axes) != [2, 3]:  # type: ignore[union-attr, operator]
        return
    kernel = [int(size) for size in shape[2:]]
    if keeps is True:
        node.target, node.args = aten.max_pool2d.default, (source, kernel, kernel)
        return
    with graph.inserting_before(node):
        pooled = graph.call_function(aten.max_pool2d.default, (source, kernel, kernel))
    pooled.meta = {**node.meta, "val": source.meta["val"].amax((2, 3), True)}
    node.target, node.args = aten.reshape.default, (pooled, [int(size) for size in shape[:2]])


def _average(node: fx.Node) -> None:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    shape = source.meta["val"].shape
    whole = len(shape) == 4 and list(node.args[1]) == [int(size) for size in shape[2:]]  # type: ignore[arg-type]
    if whole and len(node.args) <= 3 and not node.kwargs:
        node.target, node.args = aten.mean.dim, (source, [2, 3], True)


def _wrap(graph: fx.Graph, node: fx.Node) -> None:
    """One axis after the other, the last one first, as the amounts are given."""
    x, amounts = node.args[:2]
    assert isinstance(x, fx.Node)
    assert isinstance(amounts, (list, tuple))
    dims, value = x.meta["val"].dim(), x.meta["val"]
    with graph.inserting_before(node):
        for axis, (before, after) in enumerate(zip(amounts[::2], amounts[1::2], strict=True), 1):
            at, size = dims - axis, int(value.shape[dims - axis])
            parts = []
            for start, stop in ((size - before, size), (0, size), (0, after)):
                part = graph.call_function(aten.slice.Tensor, (x, at, start, stop))
                part.meta = {**node.meta, "val": value.narrow(at, start, stop - start)}
                if start < stop:
                    parts.append(x if stop - start == size else part)
            value = torch.cat([part.meta["val"] for part in parts], at)
            x = graph.call_function(aten.cat.default, (parts, at))
            x.meta = {**node.meta, "val": value}
    node.replace_all_uses_with(x)


def _drop_expansion(node: fx.Node) -> None:
    """The operator after it spreads by itself, towards its other side of the whole shape."""
    source, shape = node.args[0], node.meta["val"].shape
    assert isinstance(source, fx.Node)
    for user in list(node.users):
        others = [a for a in user.args[:2] if a is not node and isinstance(a, fx.Node)]
        plain = user.target in ELEMENTWISE and not user.kwargs and len(others) == 1
        whole = plain and others[0].meta["val"].shape == shape
        if whole and source.meta["val"].dim() == len(shape):
            user.replace_input_with(node, source)
