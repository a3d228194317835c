"""What becomes one layer with the convolution before it: batch norm and activation.

    conv -> batch norm -> ReLU    =>    one layer

Batch norm is folded into the weights; an activation that only clips is done by the runtime while it
writes the layer's output, as all of them do. Others, as sigmoid and swish, stay operators.
"""

from collections.abc import Collection
from dataclasses import dataclass

from torch import fx, nn
from torch.export import ExportedProgram

from edgekit.lower.export import ACTIVATIONS, LAYERS
from edgekit.lower.network import Network, folds, reparameterized

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
WEIGHTED = ("conv", "linear")
STANDING = ("elu", "gelu", "hardsigmoid", "hardswish", "leaky_relu", "mish", "prelu", "selu",
            "sigmoid", "silu", "softplus", "tanh")  # fmt: skip
"""Activations, in PyTorch's words, that stay operators of their own."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """How much of a network was fused."""

    layers: int
    """Convolutions and linear layers; the normalisation of the camera's pixels is one."""
    batch_norms: int
    """In the network as it was trained, or stored."""
    folded: int
    """Of those, folded into a convolution."""
    activations: int
    """In the network as it is lowered."""
    fused: int
    """Of those, fused into the operator before them."""
    whole: int
    """Convolutions that are one with a batch norm and an activation."""


def fusion(network: Network, folded: nn.Module, program: ExportedProgram) -> Fusion:
    """Count what was fused.

    Args:
        network: as it was trained.
        folded: its module in the form that runs on a device.
        program: float, exported from `folded` behind the camera's input, in canonical spelling.
    """
    graph = program.module(check_guards=False).graph
    layers = [node for node in graph.nodes if LAYERS.get(node.target) in WEIGHTED]
    fused = [node for node in graph.nodes if _fused(node)]
    standing = [node for node in graph.nodes if _name(node) in STANDING]
    apart = sum(node.target in ACTIVATIONS for node in graph.nodes) - len(fused)
    normed = _normed(network.module)
    before, after = (
        sum(isinstance(m, NORMS) for m in x.modules()) for x in (network.module, folded)
    )
    return Fusion(
        layers=len(layers),
        batch_norms=before,
        folded=before - after,
        activations=len(fused) + apart + len(standing),
        fused=len(fused),
        whole=sum(_is_under(_path(node.args[0]), normed) for node in fused),
    )


def fusion_lines(found: Fusion) -> tuple[str, ...]:
    """For people, a sentence each."""
    fused = f"{found.fused} of {found.activations} activations are fused into the operator before"
    if not found.batch_norms:
        return ("the network, as it is stored, has no batch norm", fused)
    return (
        f"{found.folded} of {found.batch_norms} batch norms are folded into weights",
        fused,
        f"{found.whole} convolutions are one layer with a batch norm and an activation",
    )


def _normed(module: nn.Module) -> tuple[str, ...]:
    """Paths of the convolutions that hold a batch norm, and of the parts made of such."""
    return (*(conv for conv, _ in folds(module)), *reparameterized(module))


def _is_under(path: str, parts: Collection[str]) -> bool:
    return any(path == part or path.startswith(f"{part}.") for part in parts)


def _fused(node: fx.Node) -> bool:
    """Whether `node` is an activation whose input is a layer's output and nobody else's."""
    if node.target not in ACTIVATIONS:
        return False
    source = node.args[0]
    return isinstance(source, fx.Node) and source.target in LAYERS and len(source.users) == 1


def _path(node: object) -> str:
    """`features.0.0` of the node that uses the weight `network.features.0.0.weight`."""
    weight = node.args[1] if isinstance(node, fx.Node) and len(node.args) > 1 else None
    found = str(weight.target) if isinstance(weight, fx.Node) else ""
    return found.removesuffix(".weight").removeprefix("network.")


def _name(node: fx.Node) -> str:
    return str(node.target).removeprefix("aten.").partition(".")[0].rstrip("_")
