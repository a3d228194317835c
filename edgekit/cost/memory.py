"""Peak activation memory: what is alive at the worst moment of running a network in order."""

from dataclasses import dataclass

from torch import fx
from torch.export import ExportedProgram
from torch.multiprocessing.reductions import StorageWeakRef

from edgekit.cost.graph import is_pointwise, layer, operator, tensors

COUNTED = (
    "Peak activation memory is of one image, its float32 planes included, each layer run whole: an "
    "inverted residual's expanded tensor counts in full, though it could be made in slices "
    "(MobileNetV2, section 5.1)."
)
"""The definition, to be printed beside the figure."""

_DROPOUTS = {"dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"}


@dataclass(frozen=True, slots=True)
class Peak:
    """The worst moment."""

    bytes: int
    """Of all living activations as float32; int8 takes a quarter."""
    layer: str
    """What runs then, as `features.2.conv.1.0 (conv2d)`."""


@dataclass(slots=True)
class _Buffer:
    bytes: int
    last: int
    """Index of the last operator that reads or writes it."""


def peak_activations(program: ExportedProgram) -> Peak:
    """Run the operators in their order, and keep each tensor from its making to its last use.

    While an operator runs, its inputs and its outputs are alive, and what later ones still need.
    Views (permute, flatten, chunk, slice) are the tensor that they look into, which lives as long
    as any of them. An element-wise operator (activation, batch norm, addition, scaling) writes over
    an input that nobody needs afterwards; dropout does nothing. Weights are not activations, and
    what an operator needs for itself while it runs is the runtime's own affair.
    """
    nodes = list(program.graph.nodes)
    held = _storages(program)
    buffers: dict[int, _Buffer] = {}  # two storages have one buffer where one is written over
    last = _last_uses(nodes, held)
    alive: dict[int, _Buffer] = {}
    peak = Peak(0, "")
    for index, node in enumerate(nodes):
        for storage, size in held[node].items():
            if storage in buffers:
                continue
            buffer = _overwritten(node, index, size, held, buffers) or _Buffer(size, index)
            buffer.last = max(buffer.last, last[storage])
            buffers[storage] = alive[id(buffer)] = buffer
        total = sum(buffer.bytes for buffer in alive.values())
        if total > peak.bytes:
            peak = Peak(total, layer(node))
        alive = {key: buffer for key, buffer in alive.items() if buffer.last > index}
    return peak


def _storages(program: ExportedProgram) -> dict[fx.Node, dict[int, int]]:
    """Of each node, the memory that its tensors lie in, and its bytes; weights have none.

    The exporter runs the network on tensors without values, whose storages are shared where those
    of real ones are: so a view, and a reshape that must copy, are told apart.
    """
    inputs = set(program.graph_signature.user_inputs)
    weights: set[int] = set()
    held: dict[fx.Node, dict[int, int]] = {}
    for node in program.graph.nodes:
        found = {
            StorageWeakRef(tensor.untyped_storage()).cdata: tensor.untyped_storage().nbytes()
            for tensor in tensors(node)
        }
        if node.op == "placeholder" and node.name not in inputs:
            weights |= found.keys()
        if operator(node) in _DROPOUTS:
            found = held[node.all_input_nodes[0]]
        held[node] = {key: size for key, size in found.items() if key not in weights}
    return held


def _last_uses(nodes: list[fx.Node], held: dict[fx.Node, dict[int, int]]) -> dict[int, int]:
    """Storage -> index of the last node that touches it; the output node touches the results."""
    return {
        storage: index
        for index, node in enumerate(nodes)
        for each in (*node.all_input_nodes, node)
        for storage in held[each]
    }


def _overwritten(
    node: fx.Node,
    index: int,
    size: int,
    held: dict[fx.Node, dict[int, int]],
    buffers: dict[int, _Buffer],
) -> _Buffer | None:
    """The input's buffer that an element-wise `node` may write its output over."""
    if not is_pointwise(node):
        return None
    for source in node.all_input_nodes:
        for storage in held[source]:
            if buffers[storage].last == index and buffers[storage].bytes == size:
                return buffers[storage]
    return None
