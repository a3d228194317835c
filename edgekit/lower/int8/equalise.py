"""Cross-layer equalisation: give every channel a fair share of the int8 range, exactly.

One scale serves a whole activation tensor, so a channel that stays near zero keeps few of the 256
steps. Multiplying channel c of a tensor by r_c where it is made, and dividing by r_c where it is
used, changes nothing in float and evens the ranges out:

    conv1 -> relu -> conv2    =>    r * conv1 -> relu -> conv2 / r

After Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019
(https://arxiv.org/abs/1906.04721), section 4.1, with activation ranges measured on the calibration
images. Tensors that are added share one channel space, so a residual stage is scaled as a whole;
what is concatenated is a part of the whole's space; squeeze-and-excite passes a scale through.
"""

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from edgekit.lower.export import aten

STRENGTH = 0.5
"""Exponent where a dense layer uses the tensor: its weights pay for what activations gain."""
HEADROOM = 1.25
"""Room that a scaled channel keeps below a ReLU6's ceiling, for images not calibrated on."""
LARGEST = 64.0
"""Bound on r, for channels that the calibration images hardly touch."""

_PASSING: set[Callable[..., object]] = {
    aten.relu.default,
    aten.relu_.default,
    aten.max_pool2d.default,
    aten.mean.dim,
    aten.adaptive_avg_pool2d.default,
    aten.avg_pool2d.default,
    aten.dropout.default,
    aten.pad.default,
}
_CLIPPING = {aten.hardtanh.default, aten.hardtanh_.default}
_SUMS = {aten.add.Tensor, aten.add_.Tensor}


@dataclass(frozen=True, slots=True)
class Part:
    """A node, and which channels of its space it holds: all of them, or `start` to `stop`."""

    node: fx.Node
    start: int = 0
    stop: int | None = None

    @property
    def channels(self) -> slice:
        return slice(self.start, self.stop)


@dataclass(slots=True)
class Space:
    """Tensors whose channels must be scaled alike, and the layers at its borders."""

    nodes: list[Part] = field(default_factory=list)
    makers: list[Part] = field(default_factory=list)
    users: list[Part] = field(default_factory=list)
    ceiling: float | None = None
    """Upper bound of a clipping activation (ReLU6) inside; then r_c >= 1 only."""
    fixed: bool = False

    def absorb(self, other: "Space", start: int = 0, stop: int | None = None) -> None:
        """Take over the members of `other`, which lies at channels `start` to `stop` of this."""
        for mine, theirs in (
            (self.nodes, other.nodes),
            (self.makers, other.makers),
            (self.users, other.users),
        ):
            mine += [Part(p.node, start, stop) if stop else p for p in theirs]
        ceilings = [c for c in (self.ceiling, other.ceiling) if c is not None]
        self.ceiling = min(ceilings, default=None)
        self.fixed |= other.fixed


def equalise(module: fx.GraphModule, images: Sequence[Tensor]) -> fx.GraphModule:
    """A copy of an exported float `module` whose channels are evened out.

    Args:
        module: from `ExportedProgram.module()`; not changed.
        images: uint8 (1, H, W, 3), the calibration images.
    """
    module = copy.deepcopy(module)
    for space, factors in measured(module, images):
        _scale(module, space, factors)
    return module


def measured(module: fx.GraphModule, images: Sequence[Tensor]) -> list[tuple[Space, Tensor]]:
    """Each space that is free to be scaled, and r, (C,), that evens it out on `images`."""
    spaces = find_spaces(module.graph)
    ranges = channel_ranges(module, {part.node for s in spaces for part in s.nodes}, images)
    return [(space, _factors(space, ranges)) for space in spaces]


def find_spaces(graph: fx.Graph) -> list[Space]:
    """The channel spaces of a graph that are free to be scaled."""
    of: dict[fx.Node, Space] = {}
    uses = Counter(str(n.target) for n in graph.nodes if n.op == "get_attr" for _ in n.users)

    def reused(node: fx.Node) -> bool:
        constants = [a for a in node.args[1:3] if isinstance(a, fx.Node)]
        return any(a.op != "get_attr" or uses[str(a.target)] > 1 for a in constants)

    def space(node: fx.Node) -> Space:
        return of.setdefault(node, Space(nodes=[Part(node)]))

    def join(first: fx.Node, second: fx.Node) -> None:
        a, b = space(first), space(second)
        if a is not b:
            a.absorb(b)
            of.update({part.node: a for part in b.nodes})

    concatenations = []
    for node in graph.nodes:
        source = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        if source is not None and _is_layer(node) and not reused(node):
            space(source).users.append(Part(node))
            space(node).makers.append(Part(node))
        elif node.target in _PASSING and source is not None and _keeps_channels(node, source):
            join(source, node)
        elif node.target in _CLIPPING and source is not None:
            join(source, node)
            low, high = float(node.args[1]), float(node.args[2])
            space(node).fixed |= low != 0
            space(node).ceiling = high
        elif node.target in _SUMS and _sums_alike(node):
            join(node.args[0], node)
            join(node.args[1], node)
        elif node.target is aten.mul.Tensor and (gate := _gate(node)) is not None:
            join(node.args[1] if gate is node.args[0] else node.args[0], node)
            space(gate).fixed = True
        elif _joins_channels(node):
            space(node)
            concatenations.append(node)
        elif node.op != "get_attr":
            for touched in (node, *node.all_input_nodes):
                space(touched).fixed = True
    for node in concatenations:
        _concatenate(node, of)
    unique = {id(s): s for s in of.values()}
    return [s for s in unique.values() if not s.fixed and s.makers and s.users]


def _joins_channels(node: fx.Node) -> bool:
    """Whether it is a concatenation of activations along their channels."""
    constant = any(source.op == "get_attr" for source in node.all_input_nodes)
    return node.target is aten.cat.default and node.args[1:] == (1,) and not constant


def _concatenate(node: fx.Node, of: dict[fx.Node, Space]) -> None:
    """The spaces of what is concatenated become parts of the result's; nested ones stay as is."""
    sources = node.args[0]
    assert isinstance(sources, (list, tuple))
    whole = of[node]
    parts = [of[source] for source in sources if isinstance(source, fx.Node)]
    nested = any(part.stop for s in (whole, *parts) for part in s.nodes)
    if nested or len({id(s) for s in (whole, *parts)}) != len(parts) + 1:
        for space in (whole, *parts):
            space.fixed = True
        return
    start = 0
    for source, space in zip(sources, parts, strict=True):
        stop = start + int(source.meta["val"].shape[1])
        whole.absorb(space, start, stop)
        of.update({part.node: whole for part in space.nodes})
        start = stop


def channel_ranges(
    module: fx.GraphModule, nodes: set[fx.Node], images: Sequence[Tensor]
) -> dict[fx.Node, Tensor]:
    """Largest |x| per channel, (C,), of each node over `images`."""
    found: dict[fx.Node, Tensor] = {}

    class Observe(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            value = super().run_node(n)
            if n in nodes and isinstance(value, Tensor):
                peak = value.abs().movedim(1, 0).flatten(1).amax(1)
                found[n] = torch.maximum(found[n], peak) if n in found else peak
            return value

    with torch.inference_mode():
        for image in images:
            Observe(module).run(image)
    return found


def _is_layer(node: fx.Node) -> bool:
    if node.target is aten.linear.default:
        return _dims(node) == 2  # with more, the channels come last
    if node.target is not aten.conv2d.default:
        return False
    weight = node.args[1].meta["val"] if isinstance(node.args[1], fx.Node) else None
    return weight is not None and (_groups(node) == 1 or _is_depthwise(node))


def _keeps_channels(node: fx.Node, source: fx.Node) -> bool:
    """Whether channel c comes from channel c alone, and no constant joins it."""
    dims = _dims(source)
    if node.target is aten.mean.dim:
        over = node.args[1] if isinstance(node.args[1], (list, tuple)) else range(dims)
        return {axis % dims for axis in over if isinstance(axis, int)} <= {2, 3}
    if node.target is aten.pad.default:
        amounts = node.args[1]
        assert isinstance(amounts, (list, tuple))
        return len(amounts) <= 2 * (dims - 2) and not any(node.args[3:])
    return True


def _sums_alike(node: fx.Node) -> bool:
    """Whether both terms are activations with the same channels."""
    first, second = node.args[:2]
    if not isinstance(first, fx.Node) or not isinstance(second, fx.Node):
        return False
    one, two = first.meta["val"].shape, second.meta["val"].shape
    constant = "get_attr" in (first.op, second.op)
    return not constant and len(one) == len(two) and one[:2] == two[:2]


def _gate(node: fx.Node) -> fx.Node | None:
    """Of a product, the one factor that is a number a channel, (N, C, 1, 1); None if none is."""
    both = [a for a in node.args[:2] if isinstance(a, fx.Node) and a.op != "get_attr"]
    shapes = [tuple(a.meta["val"].shape) for a in both]
    if len(both) != 2 or any(len(s) != 4 for s in shapes) or shapes[0][:2] != shapes[1][:2]:
        return None
    gates = [a for a, s in zip(both, shapes, strict=True) if s[2:] == (1, 1)]
    return gates[0] if len(gates) == 1 else None


def _dims(node: fx.Node) -> int:
    return len(node.meta["val"].shape)


def _groups(node: fx.Node) -> int:
    groups = node.args[6] if len(node.args) > 6 else 1
    assert isinstance(groups, int)
    return groups


def _is_depthwise(node: fx.Node) -> bool:
    weight = node.args[1]
    assert isinstance(weight, fx.Node)
    shape = weight.meta["val"].shape
    return _groups(node) > 1 and shape[0] == _groups(node) and shape[1] == 1


def _factors(space: Space, ranges: dict[fx.Node, Tensor]) -> Tensor:
    """r, (C,): `(widest / range) ** strength`, within what a clip allows."""
    whole = next(part.node for part in space.nodes if not part.stop)
    peak = torch.full_like(ranges[whole], 1e-12)
    for part in space.nodes:
        if part.node.target not in _before_clip(space):
            peak[part.channels] = torch.maximum(peak[part.channels], ranges[part.node])
    free = all(is_free(part.node) for part in space.users)
    widest = float(peak.amax()) if space.ceiling is None else space.ceiling / HEADROOM
    factors = (widest / peak).clamp(min=1.0, max=LARGEST)
    return factors if free else factors**STRENGTH


def is_free(node: fx.Node) -> bool:
    """A depthwise weight has a scale for each channel: dividing it costs no precision."""
    return node.target is aten.conv2d.default and _is_depthwise(node)


def _before_clip(space: Space) -> set[object]:
    """What a ReLU6 cuts off does not count: only look behind it."""
    if space.ceiling is None:
        return set()
    return {aten.conv2d.default, aten.linear.default, *_SUMS}


def _scale(module: fx.GraphModule, space: Space, factors: Tensor) -> None:
    for part in space.makers:
        for tensor in part.node.args[1:3]:  # weight and, if there is one, bias
            if isinstance(tensor, fx.Node):
                _multiply(module, tensor, factors[part.channels], axis=0)
    for part in space.users:
        axis = 0 if is_free(part.node) else 1
        _multiply(module, part.node.args[1], 1 / factors[part.channels], axis)


def _multiply(module: fx.GraphModule, node: object, factors: Tensor, axis: int) -> None:
    assert isinstance(node, fx.Node)
    owner_name, _, name = str(node.target).rpartition(".")
    owner = module.get_submodule(owner_name)
    value: Tensor = getattr(owner, name)
    shape = [1] * value.dim()
    shape[axis] = -1
    with torch.no_grad():
        value.mul_(factors.view(shape))
