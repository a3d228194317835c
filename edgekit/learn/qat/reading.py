"""Reading a graph that is prepared for quantising: what observes what, and how layers lie."""

import math
from collections.abc import Sequence
from typing import Any

from torch import fx

from edgekit.learn.qat.layer import Geometry
from edgekit.lower.export import aten
from edgekit.lower.forms.integer import CONVOLUTIONS
from edgekit.lower.int8.pairs import SHARING, calls

MOVES = (SHARING - {aten.avg_pool2d.default}) | {aten.cat.default}
"""What gives the very numbers that it takes."""


def is_observer(node: fx.Node) -> bool:
    """Whether it watches a tensor's range."""
    return node.op == "call_module" and str(node.target).startswith("activation_post_process")


def of_weight(node: fx.Node) -> bool:
    """Whether it observes a layer's weights."""
    return is_observer(node) and all(
        user.target in CONVOLUTIONS and user.args[1] is node for user in node.users
    )


def moves(node: fx.Node) -> bool:
    """Whether it gives the very numbers that it takes."""
    plain = node.target is not aten.pad.default or not any(node.args[3:])
    return node.target in MOVES and plain


def ends(node: fx.Node) -> tuple[float, float]:
    """Between which an activation lets values pass."""
    if node.target not in (aten.hardtanh.default, aten.hardtanh_.default):
        return 0.0, math.inf
    low, high = (*node.args[1:], -1.0, 1.0)[:2] if len(node.args) == 3 else (-1.0, 1.0)
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    return float(low), float(high)


def margin(node: object) -> tuple[int, int] | None:
    """Rows and columns of zeros on every side that `node` adds; None if it does something else."""
    if not calls(node, aten.pad.default) or any(node.args[2:]):
        return None
    amounts = node.args[1]
    assert isinstance(amounts, list | tuple)
    sides = [each for each in amounts if isinstance(each, int)]
    if len(sides) != 4 or sides[0] != sides[1] or sides[2] != sides[3]:
        return None
    return sides[2], sides[0]


def geometry(given: Sequence[Any]) -> Geometry:
    """Of a convolution's arguments after its bias."""
    defaults: tuple[Any, ...] = ((1,), (0,), (1,), 1)
    stride, padding, dilation, groups = [*given, *defaults[len(given) :]]
    return Geometry(False, _pair(stride), _pair(padding), _pair(dilation), int(groups))


def _pair(value: Sequence[int]) -> tuple[int, int]:
    return int(value[0]), int(value[-1])
