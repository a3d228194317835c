"""nn.Module -> ExportedProgram, taking camera pixels; and the names of its layers."""

from dataclasses import dataclass

import torch
import torchao.quantization.pt2e.quantize_pt2e  # noqa: F401  registers quantized_decomposed
from torch import fx, nn
from torch.export import ExportedProgram

from edgekit.errors import SpecError
from edgekit.lower.gate import tracing
from edgekit.lower.network import CameraInput, Network
from edgekit.spec import ModelSpec, Precision, Scheme, TensorSpec

aten = torch.ops.aten
quantized = torch.ops.quantized_decomposed

LAYERS: dict[object, str] = {
    aten.conv2d.default: "conv",
    aten.conv2d.padding: "conv",
    aten.linear.default: "linear",
    aten.add.Tensor: "add",
    aten.add_.Tensor: "add",
    aten.mul.Tensor: "mul",
    aten.cat.default: "cat",
    aten.mean.dim: "mean",
    aten.adaptive_avg_pool2d.default: "mean",
    aten.max_pool2d.default: "max pool",
    aten.avg_pool2d.default: "avg pool",
    aten.channel_shuffle.default: "channel shuffle",
}
"""The operators that a divergence is reported at; each keeps its order through quantisation."""

ACTIVATIONS = {
    aten.relu.default,
    aten.relu_.default,
    aten.hardtanh.default,
    aten.hardtanh_.default,
}
"""Element-wise, and fused into the operator before them by every runtime."""

_PASSING = {
    quantized.quantize_per_tensor.default,
    quantized.dequantize_per_tensor.default,
} | ACTIVATIONS


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer and the node after its fused activation and (int8) its requantisation."""

    name: str
    node: fx.Node


def model_spec(network: Network, precision: Precision, scheme: Scheme) -> ModelSpec:
    """The seam's view of a network: a camera image in, logits out."""
    image = network.image
    return ModelSpec(
        name=network.name,
        image=image,
        classes=network.classes,
        precision=precision,
        scheme=scheme,
        input=TensorSpec("image", (1, image.height, image.width, 3), "uint8"),
        output=TensorSpec("logits", (1, network.classes), "float32"),
        labels=network.labels,
    )


def example(network: Network) -> torch.Tensor:
    """(1, H, W, 3) uint8, mid-grey: the shape that the program is exported for."""
    return torch.full((1, network.image.height, network.image.width, 3), 128, dtype=torch.uint8)


def with_camera_input(network: Network) -> CameraInput:
    """The eager module that everything after it is compared with."""
    return CameraInput(network.module, network.image)


def export(module: nn.Module, pixels: torch.Tensor) -> ExportedProgram:
    """Trace `module` on `pixels`.

    Raises:
        SpecError: PyTorch cannot export the network, or it draws random numbers; says where.
    """
    try:
        program = torch.export.export(module, (pixels,))
    except Exception as cause:  # torch.export raises many kinds
        reason = tracing.explain(cause)
        raise SpecError(f"PyTorch cannot export this network: {reason}") from cause
    tracing.check_program(program)
    return program


def layers(graph: fx.Graph) -> list[Layer]:
    """The layers of an exported or quantised graph, in order of execution.

    The n-th layer of a float graph and the n-th of its quantised form are the same layer.
    """
    found: list[Layer] = []
    for node in graph.nodes:
        if node.target in LAYERS:
            found.append(Layer(_name(node, len(found)), _tail(node)))
    return found


def _name(node: fx.Node, index: int) -> str:
    """`network.features.3.conv.1.0 (conv)`, from the weight's name where there is one."""
    kind = LAYERS[node.target]
    if len(node.args) > 1 and isinstance(node.args[1], fx.Node):
        source = node.args[1]
        while source.op == "call_function" and isinstance(source.args[0], fx.Node):
            source = source.args[0]
        if source.op == "get_attr":
            return f"{str(source.target).removesuffix('.weight')} ({kind})"
    return f"layer {index} ({kind})"


def _tail(node: fx.Node) -> fx.Node:
    """Follow the activation and the quantise-dequantise pair that belong to `node`."""
    while True:
        users = list(node.users)
        nexts = [user for user in users if user.target in _PASSING]
        if not nexts or len(nexts) != len(users):
            return node
        if len(nexts) > 1 and nexts[0].target is not quantized.dequantize_per_tensor.default:
            return node
        node = nexts[0]
