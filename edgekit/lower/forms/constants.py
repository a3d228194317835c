"""What does not depend on the image is computed once, before anything is lowered.

    conv(x, (w - mean(w)) / std(w))   ->  conv(x, w')
    cat([x, linspace(-1, 1, h)])      ->  cat([x, c])

Exact: the same operators on the same numbers. Weights that are made in forward() can then be
quantised like any other, and no runtime needs the operators that made them.
"""

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

LARGEST = 1 << 22
"""Elements; a constant larger than this stays what it is computed from."""


def fold_constants(module: fx.GraphModule) -> None:
    """Replace each value that no placeholder has a part in by a buffer `folded_<n>`, in place."""
    values: dict[fx.Node, Any] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr" and all(_is_pure(user) for user in node.users):
            values[node] = _get(module, str(node.target))
        elif node.op == "call_function" and _is_pure(node) and values.keys() >= _sources(node):
            values[node] = _computed(node, values)
    read = [n for n in values if any(user not in values for user in n.users)]
    for n, node in enumerate(n for n in read if n.op == "call_function"):
        value = values[node]
        if isinstance(value, torch.Tensor) and value.numel() <= LARGEST:
            module.register_buffer(f"folded_{n}", value.detach().contiguous().clone())
            with module.graph.inserting_before(node):
                constant = module.graph.get_attr(f"folded_{n}")
            constant.meta = dict(node.meta)
            node.replace_all_uses_with(constant)
    module.graph.eliminate_dead_code()


def _sources(node: fx.Node) -> set[fx.Node]:
    return set(node.all_input_nodes)


def _computed(node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    arguments: Any = fx.node.map_arg((node.args, node.kwargs), lambda source: values[source])
    assert callable(node.target)
    with torch.no_grad():
        return node.target(*arguments[0], **arguments[1])


def _is_pure(node: fx.Node) -> bool:
    """Whether it changes nothing, and gives the same each time."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return node.target is operator.getitem or node.op == "output"
    random = torch.Tag.nondeterministic_seeded in node.target.tags
    return not node.target._schema.is_mutable and not random


def _get(module: fx.GraphModule, name: str) -> Any:
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part)
    return value
