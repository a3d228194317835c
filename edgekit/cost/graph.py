"""A network as a graph of operators to be read: shapes, arguments and layers' names."""

from contextlib import redirect_stderr
from io import StringIO
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from edgekit.errors import SpecError
from edgekit.spec import ImageSpec


def trace(module: nn.Module, image: ImageSpec) -> ExportedProgram:
    """Export `module` in eval mode for a (1, 3, height, width) image, nothing decomposed.

    Raises:
        SpecError: PyTorch cannot export it; the cause says where.
    """
    planes = torch.zeros(1, 3, image.height, image.width)
    try:
        with redirect_stderr(StringIO()):  # a failure prints the graph, and more than once
            return torch.export.export(module.eval(), (planes,))
    except Exception as cause:  # torch.export raises many kinds
        lines = str(cause).strip().splitlines()
        raise SpecError(
            f"PyTorch cannot export this network: {lines[0] if lines else type(cause).__name__}"
        ) from cause


def operator(node: fx.Node) -> str:
    """`conv2d` for aten.conv2d.default and aten.conv2d.padding, `relu_` for the in-place form."""
    if isinstance(node.target, torch._ops.OpOverload):
        return node.target._schema.name.partition("::")[2]
    return str(getattr(node.target, "__name__", node.target))


def layer(node: fx.Node) -> str:
    """`features.2.conv.1.0 (conv2d)`: the module that runs the operator, and the operator."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]) if stack else ""
    return f"{path} ({operator(node).rstrip('_')})" if path else operator(node).rstrip("_")


def tensors(node: fx.Node) -> list[Tensor]:
    """What `node` gives, one tensor or several, without their values."""
    return [leaf for leaf in pytree.tree_leaves(node.meta.get("val")) if isinstance(leaf, Tensor)]


def shape(node: fx.Node) -> tuple[int, ...]:
    """Of the first tensor that `node` gives; () where it gives none."""
    found = tensors(node)
    return tuple(found[0].shape) if found else ()


def arguments(node: fx.Node) -> dict[str, Any]:
    """An aten operator's arguments by their names in its schema, defaults filled in."""
    assert isinstance(node.target, torch._ops.OpOverload)
    known = node.target._schema.arguments
    named = {each.name: each.default_value for each in known}
    return named | dict(zip([each.name for each in known], node.args, strict=False)) | node.kwargs


def is_pointwise(node: fx.Node) -> bool:
    """Each output value depends on the input values at its own place alone."""
    tags = getattr(node.target, "tags", ())
    return torch.Tag.pointwise in tags or operator(node).rstrip("_") in _POINTWISE


_POINTWISE = {"batch_norm", "hardswish", "relu6", "prelu"}
"""Those that PyTorch does not tag; batch norm is in eval mode, a multiply and an add."""
