"""Cross-layer equalisation: give every channel a fair share of the int8 range, exactly.

One scale serves a whole activation tensor, so a channel that stays near zero keeps few of the 256
steps. Multiplying channel c of a tensor by r_c where it is made, and dividing by r_c where it is
used, changes nothing in float and evens the ranges out:

    conv1 -> relu -> conv2    =>    r * conv1 -> relu -> conv2 / r

After Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019
(https://arxiv.org/abs/1906.04721), section 4.1, with activation ranges measured on the calibration
images. Tensors that are added share one channel space, so a residual stage is scaled as a whole.
"""

import copy
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


@dataclass(slots=True)
class Space:
    """Tensors whose channels must be scaled alike, and the layers at its borders."""

    nodes: list[fx.Node] = field(default_factory=list)
    makers: list[fx.Node] = field(default_factory=list)
    users: list[fx.Node] = field(default_factory=list)
    ceiling: float | None = None
    """Upper bound of a clipping activation (ReLU6) inside; then r_c >= 1 only."""
    fixed: bool = False

    def absorb(self, other: "Space") -> None:
        self.nodes += other.nodes
        self.makers += other.makers
        self.users += other.users
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
    spaces = find_spaces(module.graph)
    ranges = channel_ranges(module, {n for s in spaces for n in s.nodes}, images)
    for space in spaces:
        _scale(module, space, _factors(space, ranges))
    return module


def find_spaces(graph: fx.Graph) -> list[Space]:
    """The channel spaces of a graph that are free to be scaled."""
    of: dict[fx.Node, Space] = {}

    def space(node: fx.Node) -> Space:
        return of.setdefault(node, Space(nodes=[node]))

    def join(first: fx.Node, second: fx.Node) -> None:
        a, b = space(first), space(second)
        if a is not b:
            a.absorb(b)
            of.update(dict.fromkeys(b.nodes, a))

    for node in graph.nodes:
        source = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        if _is_layer(node) and source is not None:
            space(source).users.append(node)
            space(node).makers.append(node)
        elif node.target in _PASSING and source is not None:
            join(source, node)
        elif node.target in _CLIPPING and source is not None:
            join(source, node)
            low, high = float(node.args[1]), float(node.args[2])
            space(node).fixed |= low != 0
            space(node).ceiling = high
        elif node.target in _SUMS and all(isinstance(a, fx.Node) for a in node.args[:2]):
            join(node.args[0], node)
            join(node.args[1], node)
        elif node.op != "get_attr":
            for touched in (node, *node.all_input_nodes):
                space(touched).fixed = True
    unique = {id(s): s for s in of.values()}
    return [s for s in unique.values() if not s.fixed and s.makers and s.users]


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
        return True
    if node.target is not aten.conv2d.default:
        return False
    weight = node.args[1].meta["val"] if isinstance(node.args[1], fx.Node) else None
    return weight is not None and (_groups(node) == 1 or _is_depthwise(node))


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
    peaks = torch.stack([ranges[n] for n in space.nodes if n.target not in _before_clip(space)])
    peak = peaks.amax(0).clamp(min=1e-12)
    free = all(n.target is aten.conv2d.default and _is_depthwise(n) for n in space.users)
    widest = float(peak.amax()) if space.ceiling is None else space.ceiling / HEADROOM
    factors = (widest / peak).clamp(min=1.0, max=LARGEST)
    return factors if free else factors**STRENGTH


def _before_clip(space: Space) -> set[object]:
    """What a ReLU6 cuts off does not count: only look behind it."""
    if space.ceiling is None:
        return set()
    return {aten.conv2d.default, aten.linear.default, *_SUMS}


def _scale(module: fx.GraphModule, space: Space, factors: Tensor) -> None:
    for node in space.makers:
        _multiply(module, node.args[1], factors, axis=0)
        if len(node.args) > 2 and isinstance(node.args[2], fx.Node):
            _multiply(module, node.args[2], factors, axis=0)
    for node in space.users:
        axis = 0 if node.target is aten.conv2d.default and _is_depthwise(node) else 1
        _multiply(module, node.args[1], 1 / factors, axis)


def _multiply(module: fx.GraphModule, node: object, factors: Tensor, axis: int) -> None:
    assert isinstance(node, fx.Node)
    owner_name, _, name = str(node.target).rpartition(".")
    owner = module.get_submodule(owner_name)
    value: Tensor = getattr(owner, name)
    shape = [1] * value.dim()
    shape[axis] = -1
    with torch.no_grad():
        value.mul_(factors.view(shape))
