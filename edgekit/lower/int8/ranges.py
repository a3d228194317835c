"""The integers of activations by name: what training for int8 leaves to the build.

Each place where an int8 graph quantises an activation is called after the layer that made it
(`features.0.0`) or, where that has no name, after its operator; the second of a name is `add#2`.
The camera's pixels are `image`, their normalisation is `normalise`.
"""

import math
from collections import Counter
from collections.abc import Mapping

from torch import fx

from edgekit.checkpoint import Range
from edgekit.errors import CheckpointError
from edgekit.lower.export import aten
from edgekit.lower.forms.integer import CONVOLUTIONS
from edgekit.lower.int8.pairs import DEQUANTIZE, QUANTIZE, layer_name, maker_of
from edgekit.spec import Scheme


def names(graph: fx.Graph) -> dict[fx.Node, str]:
    """The name of each quantize_per_tensor node of a converted graph, in order."""
    seen: Counter[str] = Counter()
    found = {}
    for node in graph.nodes:
        if node.target is QUANTIZE:
            base = _base(maker_of(node))
            seen[base] += 1
            found[node] = base if seen[base] == 1 else f"{base}#{seen[base]}"
    return found


def _base(maker: fx.Node) -> str:
    if maker.target in CONVOLUTIONS:
        name = layer_name(maker)
        return "hard_swish" if name.startswith("hard_swish_") else name
    if maker.target is aten.to.dtype:
        return "image"
    if maker.target is DEQUANTIZE:
        return "again"
    return str(maker.target).removeprefix("aten.").partition(".")[0]


def read_ranges(graph: fx.Graph) -> dict[str, Range]:
    """Name -> integers, of a converted graph."""
    return {name: _range(node) for node, name in names(graph).items()}


def write_ranges(graph: fx.Graph, ranges: Mapping[str, Range]) -> None:
    """Give every activation of a converted graph the integers that training left, in place.

    Raises:
        CheckpointError: they are of another network, or no integers.
    """
    found = names(graph)
    odd = sorted(set(found.values()) ^ ranges.keys())
    if odd:
        which = "has none of" if odd[0] in found.values() else "has one of"
        raise CheckpointError(
            f"the card's ranges are not of this network: it {which} '{odd[0]}'; quantize the "
            "checkpoint again with this edgekit, or calibrate anew with --observer minmax"
        )
    for node, name in found.items():
        set_range(node, check(name, ranges[name]))


def check(name: str, wanted: Range) -> Range:
    """Raises CheckpointError: a scale that is none, or a zero point that is no int8."""
    scale, zero = wanted.scale, wanted.zero_point
    if not (math.isfinite(scale) and scale > 0 and -128 <= zero <= 127):
        raise CheckpointError(
            f"the card's range of '{name}' is scale {scale}, zero point {zero}; a scale is above 0 "
            "and a zero point from -128 to 127: the card is damaged, fetch it again"
        )
    return wanted


def set_range(node: fx.Node, wanted: Range) -> None:
    """Of a quantize_per_tensor node, and of what dequantises it."""
    for each in (node, *(user for user in node.users if user.target is DEQUANTIZE)):
        each.args = (each.args[0], wanted.scale, wanted.zero_point, *each.args[3:])


def scheme_of(ranges: Mapping[str, Range]) -> Scheme:
    """What a network was trained for: symmetric activations have no zero point."""
    return "affine" if any(each.zero_point for each in ranges.values()) else "symmetric"


def _range(node: fx.Node) -> Range:
    scale, zero = node.args[1:3]
    assert isinstance(scale, float)
    assert isinstance(zero, int)
    return Range(scale, zero)
