"""One spelling for activations that are made of clips, however a network wrote them.

    relu6(x), clamp(x, 0, 6), clip(x, min=0, max=6)        ->  hardtanh(x, 0, 6)
    clamp(x, min=0), clamp_min(x, 0)                       ->  relu(x)
    relu6(x + 3) / 6, clamp(x + 3, 0, 6) * (1 / 6)         ->  hardsigmoid(x)
    x * hardsigmoid(x), x * relu6(x + 3) / 6               ->  hardswish(x)

Exact up to the last bit: MobileNetV3, section 5.2, defines the last two so. Runtimes fuse a clip
into the layer before it; the quantiser and the integer forms know each of the four by one name.
"""

import math

import torch
from torch import fx

aten = torch.ops.aten

CLAMPS = {aten.clamp.default, aten.clip.default, aten.clamp_min.default, aten.clamp_max.default}


def one_spelling(graph: fx.Graph, node: fx.Node) -> None:
    """Change `node`, a call without effect in place, into the first of the forms that it is."""
    if node.target is aten.relu6.default:
        _become(node, aten.hardtanh.default, (node.args[0], 0.0, 6.0))
    elif node.target in CLAMPS:
        _clamp(node)
    elif node.target in (aten.div.Tensor, aten.mul.Tensor):
        _hard_sigmoid(node)
        if node.target is not aten.hardsigmoid.default:
            _hard_swish(node)


def _clamp(node: fx.Node) -> None:
    if not node.meta["val"].is_floating_point():
        return
    names = {aten.clamp_min.default: ["min"], aten.clamp_max.default: ["max"]}
    bounds = dict(zip(names.get(node.target, ["min", "max"]), node.args[1:], strict=False))  # type: ignore[call-overload]
    bounds |= node.kwargs
    low, high = bounds.get("min"), bounds.get("max")
    if low == 0 and high is None:
        _become(node, aten.relu.default, (node.args[0],))
    elif isinstance(low, int | float) and isinstance(high, int | float) and low < high:
        _become(node, aten.hardtanh.default, (node.args[0], float(low), float(high)))


def _hard_sigmoid(node: fx.Node) -> None:
    inner = _sixth_of(node)
    source = None if inner is None else _shifted_clip(inner)
    if source is not None:
        _become(node, aten.hardsigmoid.default, (source,))


def _hard_swish(node: fx.Node) -> None:
    """Either the gate is whole already, or the division by 6 comes after the product."""
    whole = node.target is aten.mul.Tensor
    product = node if whole and _sixth_of(node) is None else _sixth_of(node)
    if product is None or product.target is not aten.mul.Tensor:
        return
    for x, gate in (product.args[:2], product.args[1::-1]):
        if not isinstance(gate, fx.Node) or not isinstance(x, fx.Node):
            return
        hard = gate.target is aten.hardsigmoid.default and gate.args[0] is x
        if hard if product is node else _shifted_clip(gate) is x:
            _become(node, aten.hardswish.default, (x,))
            return


def _sixth_of(node: fx.Node) -> fx.Node | None:
    """Y of `y / 6`, `y * (1 / 6)` or `(1 / 6) * y`; None if `node` is none of these."""
    source, number = node.args[:2]
    factor = 6.0 if node.target is aten.div.Tensor else 1 / 6
    if not isinstance(number, int | float) or not math.isclose(number, factor, rel_tol=1e-6):
        return None
    return source if isinstance(source, fx.Node) else None


def _shifted_clip(node: fx.Node) -> fx.Node | None:
    """X of `clip(x + 3, 0, 6)`."""
    if node.target is not aten.hardtanh.default or node.args[1:] != (0.0, 6.0):
        return None
    shifted = node.args[0]
    if not isinstance(shifted, fx.Node) or shifted.target is not aten.add.Tensor:
        return None
    source, number = shifted.args[:2]
    plain = number == 3 and not shifted.kwargs
    return source if plain and isinstance(source, fx.Node) else None


def _become(node: fx.Node, target: object, arguments: tuple[object, ...]) -> None:
    node.target, node.args, node.kwargs = target, arguments, {}  # type: ignore[assignment]
