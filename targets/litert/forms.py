"""Forms that litert-torch can convert, of operators that it cannot, in place.

    conv_transpose(x, padding=p, output_padding=o)  ->  slice(conv_transpose(x), p, p + height)

Exact.
"""

from typing import Any

import torch
from torch import fx

aten = torch.ops.aten

NAMES = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
DEFAULTS = (None, [1, 1], [0, 0], [0, 0], 1, [1, 1])


def cut_transposed_convolutions(module: fx.GraphModule) -> None:
    """Make the whole output and cut it, where one side is padded more than the other.

    Output padding adds rows and columns at the bottom and the right, which are part of the whole
    output as long as it is not more than the padding that is cut off there.
    """
    graph = module.graph
    for node in [n for n in graph.nodes if n.target is aten.conv_transpose2d.input]:
        given: dict[str, Any] = dict(zip(NAMES[2:], DEFAULTS, strict=True))
        given |= dict(zip(NAMES, node.args, strict=False)) | node.kwargs
        padding, more = (_pair(given[name]) for name in ("padding", "output_padding"))
        if not any(more) or any(o > p for o, p in zip(more, padding, strict=True)):
            continue
        given |= {"padding": [0, 0], "output_padding": [0, 0]}
        with graph.inserting_before(node):
            part = graph.call_function(node.target, tuple(given[name] for name in NAMES))
            for axis, (start, size) in enumerate(
                zip(padding, node.meta["val"].shape[2:], strict=True), start=2
            ):
                arguments = (part, axis, start, start + int(size))
                part = graph.call_function(aten.slice.Tensor, arguments)
        part.meta = dict(node.meta)
        node.replace_all_uses_with(part)
        graph.erase_node(node)
    module.recompile()


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
