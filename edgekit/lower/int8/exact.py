"""Scales with which no runtime can round differently: the same integers everywhere.

An integer layer computes `round(M * acc)`: `acc` is a sum of products of integers, the same on
every machine, and `M = s_in * s_weight / s_out` is a real number. Runtimes multiply in float32 or
in fixed point, in one order or another, and round a half to even, up, or away from zero. Where
`M * acc` lies near a half they give different integers; a step of difference grows from layer to
layer, until two right runtimes differ by as much as int8 differs from float.

So M is chosen as `2^j / q` with q odd. Then `M * acc` is never a half, and never nearer to one than
`1 / (2 q)`: as long as `|acc|` stays under half of 1 / (relative error of M), that is a million for
float32, every runtime rounds it alike. Only scales that are free are moved, by less than 0.4 %:

    convolution, linear   s_weight of each channel; and the bias is an integer of s_in * s_weight
    product               s_out
    mean over a plane     s_out, where M = s_in / (count * s_out)
    sum                   both terms and the result are on one scale: M = 1
    what moves numbers    (pad, max pool, concatenation, shuffle ...) is on one scale already
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from edgekit.lower.export import aten
from edgekit.lower.forms.integer import CONVOLUTIONS
from edgekit.lower.int8.multiplier import at_most, is_exact
from edgekit.lower.int8.pairs import (
    DEQUANTIZE,
    QUANTIZE,
    SHARING,
    calls,
    maker_of,
    operands_of,
    scale_of,
)
from edgekit.lower.int8.weights import settle_weights

MOVES = SHARING | {aten.cat.default, DEQUANTIZE}
"""What gives the numbers that it takes, of one input or several; and what is quantised twice."""
KNOWN = MOVES | CONVOLUTIONS | {aten.add.Tensor, aten.mul.Tensor, aten.mean.dim}
"""What is computed in integers everywhere."""


@dataclass(slots=True, eq=False)
class Value:
    """A quantised tensor, with those that hold the same numbers, elsewhere."""

    nodes: list[fx.Node]
    """quantize_per_tensor, in order."""
    low: float
    high: float
    """The real numbers that its integers reach."""
    symmetric: bool
    fixed: bool
    """Whether an operator dictates its scale and zero point."""
    peers: list["Value"]
    """All that are on its scale, itself among them; the same list in each."""

    @property
    def wanted(self) -> float:
        """The least scale that covers the range."""
        steps = 128 if self.symmetric else 255
        reach = max(-self.low, self.high * 128 / 127) if self.symmetric else self.high - self.low
        return reach / steps


def make_exact(model: fx.GraphModule, fixed: frozenset[float]) -> None:
    """Move the scales of a converted int8 graph, in place.

    Args:
        model: what `convert_pt2e(fold_quantize=False)` gave.
        fixed: scales that an operator dictates; they are left as they are.
    """
    settle_activations(model.graph, fixed)
    settle_weights(model)


def settle_activations(graph: fx.Graph, fixed: frozenset[float]) -> None:
    """The first half of `make_exact`: the scales of activations."""
    of = _values(graph, fixed)
    scales: dict[int, float] = {}
    for value in of.values():
        _settle(value, of, scales)
    for value in {id(v): v for v in of.values()}.values():
        _write(value, scales[id(value.peers)])


def doubts(graph: fx.Graph) -> tuple[str, ...]:
    """Where runtimes may still round differently, and why, for people; empty if nowhere.

    Args:
        graph: of a program that `make_exact` has seen.
    """
    of = _values(graph, frozenset())
    scales = {id(value.peers): scale_of(value.nodes[0]) for value in of.values()}
    found = Counter(why for node in of if (why := _doubt(node, of, scales)))
    return tuple(f"{why} ({count} times)" for why, count in sorted(found.items()))


def _values(graph: fx.Graph, fixed: frozenset[float]) -> dict[fx.Node, Value]:
    """The value of each quantize node; which of them are one, and which share a scale."""
    of: dict[fx.Node, Value] = {}
    for node in [n for n in graph.nodes if n.target is QUANTIZE]:
        scale, zero = scale_of(node), node.args[2]
        assert isinstance(zero, int)
        low, high = (-128 - zero) * scale, (127 - zero) * scale
        value = of[node] = Value([node], low, high, zero == 0, scale in fixed, [])
        value.peers = [value]
    for node in of:
        maker, sources = maker_of(node), _sources(node, of)
        if maker.target in MOVES:
            for source in sources:
                _unite(of[source], of[node], of)
        elif maker.target is aten.add.Tensor and len(sources) == 2:
            for source in sources:
                _share(of[source], of[node])
    return of


def _unite(one: Value, two: Value, of: dict[fx.Node, Value]) -> None:
    """Make one value of two, unless their scales are dictated and differ."""
    if one is two or one.fixed != two.fixed:
        return
    if not one.fixed:
        _share(one, two)
        one.peers.remove(two)
    one.nodes += two.nodes
    one.low, one.high = min(one.low, two.low), max(one.high, two.high)
    one.symmetric &= two.symmetric
    of.update(dict.fromkeys(two.nodes, one))


def _share(one: Value, two: Value) -> None:
    """Put all peers of two values on one scale, unless one is dictated."""
    if one.peers is two.peers or any(v.fixed for v in (*one.peers, *two.peers)):
        return
    both = one.peers
    both += two.peers
    for value in two.peers:
        value.peers = both


def _settle(value: Value, of: dict[fx.Node, Value], scales: dict[int, float]) -> float:
    """The scale of a value and its peers, float32, by the id of their list."""
    key = id(value.peers)
    if key in scales:
        return scales[key]
    wanted = scales[key] = max(peer.wanted for peer in value.peers)  # ends a walk in a circle, too
    if not value.fixed:
        made = [node for peer in value.peers for node in peer.nodes]
        units = [unit for node in made for unit in _unit(node, of, scales)]
        if units:
            wanted = units[0] / at_most(units[0] / wanted)
    scales[key] = _float32(scale_of(value.nodes[0]) if value.fixed else wanted)
    return scales[key]


def _unit(node: fx.Node, of: dict[fx.Node, Value], scales: dict[int, float]) -> Iterator[float]:
    """M * s_out of a product or a mean: what the scale of the result is measured in."""
    maker, sources = maker_of(node), _sources(node, of)
    if maker.target is aten.mul.Tensor and len(sources) == 2:
        first, second = (_settle(of[source], of, scales) for source in sources)
        yield first * second
    elif maker.target is aten.mean.dim and sources:
        count = _elements(maker.args[0]) // _elements(maker)
        yield _settle(of[sources[0]], of, scales) / count


def _doubt(node: fx.Node, of: dict[fx.Node, Value], scales: dict[int, float]) -> str:
    """Why runtimes may round what `node` quantises in different ways; empty if they cannot."""
    maker, sources = maker_of(node), _sources(node, of)
    name = str(maker.target).removeprefix("aten.").partition(".")[0]
    if str(maker.target) == "aten.to.dtype":  # the camera's pixels are integers as they are
        return ""
    if not sources or maker.target not in KNOWN:
        return f"{name}: computed in float or by a table"
    if maker.target in (aten.mul.Tensor, aten.mean.dim):
        (unit,) = _unit(node, of, scales)
        exact = is_exact(unit / scale_of(node))
        return "" if exact else f"{name}: its result is on a scale that is dictated elsewhere"
    if maker.target is aten.avg_pool2d.default and math.prod(_pair(maker.args[1])) % 2 == 0:
        return f"{name}: a mean of an even number of values may be a half"
    alike = maker.target in CONVOLUTIONS or all(scale_of(s) == scale_of(node) for s in sources)
    return "" if alike else f"{name}: what it takes has another scale"


def _write(value: Value, scale: float) -> None:
    """Give a value's nodes their scale and zero point."""
    zero = value.nodes[0].args[2]
    assert isinstance(zero, int)
    if not value.fixed and scale != value.nodes[0].args[1]:
        if value.symmetric or value.low >= 0:
            zero = 0 if value.symmetric else -128
        else:  # centred in what the larger scale leaves free
            spare = 255 - (value.high - value.low) / scale
            zero = min(127, max(-128, round(-128 - value.low / scale + spare / 2)))
    for node in value.nodes:
        for each in (node, *(user for user in node.users if user.target is DEQUANTIZE)):
            each.args = (each.args[0], scale, zero, *each.args[3:])


def _sources(quantize: fx.Node, of: dict[fx.Node, Value]) -> list[fx.Node]:
    """The quantize nodes that the maker's operands come from; empty if one of them is float."""
    maker = maker_of(quantize)
    operands = [maker] if maker.target is DEQUANTIZE else operands_of(maker)
    if not operands or any(not calls(operand, DEQUANTIZE) for operand in operands):
        return []
    found = [operand.args[0] for operand in operands]
    return [node for node in found if isinstance(node, fx.Node) and node in of]


def _elements(node: object) -> int:
    while isinstance(node, fx.Node) and "val" not in node.meta:
        node = node.args[0]  # convert_pt2e gives what it inserts no shape: it is its input's
    assert isinstance(node, fx.Node)
    return int(node.meta["val"].numel())


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _float32(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float32))
