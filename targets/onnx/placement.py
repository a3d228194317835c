"""What falls back in an `.onnx` file: from TensorRT, or from the CPU provider's own kernels.

Which of the two is asked is what the session wants first. Q/DQ pairs are no operators of their own
here: they say in which numbers a tensor is handed on.
"""

from pathlib import Path

from onnx import NodeProto

from edgekit.errors import SpecError
from edgekit.spec import Placement, SessionOptions
from targets.onnx import kernels
from targets.onnx.providers import CPU, TENSORRT
from targets.onnx.reading import Graph, read
from targets.partitions import Node, placement

JUDGES = {
    TENSORRT: (
        "TensorRT",
        "NVIDIA's published operator support for TensorRT 8.6 and its rules for Q/DQ; a forecast: "
        "engines are built on the device",
        kernels.tensorrt,
    ),
    CPU: (
        "ONNX Runtime's CPU provider",
        "the kernels of ONNX Runtime 1.31 on x86-64, from the file alone",
        kernels.cpu,
    ),
}
BORDER = ("Cast", "Identity", "Transpose")
"""What may stand between the camera's bytes and the first layer, or after the last one."""


def place(model: Path, options: SessionOptions) -> Placement:
    """Judge every operator of the graph for the execution provider that is wanted first.

    Raises:
        BundleError: the file cannot be read, or is no ONNX model.
        SpecError: what that provider takes is not known here.
    """
    provider = (options.providers or (CPU,))[0]
    if provider not in JUDGES:
        known = " and ".join(sorted(JUDGES))
        raise SpecError(f"what {provider} takes is not known here; what {known} take is")
    accelerator, basis, judge = JUDGES[provider]
    graph = read(model)
    border = _border(graph)
    nodes = [
        Node(
            name=node.name or node.output[0],
            kind=node.op_type,
            inputs=tuple(graph.sources[name] for name in graph.data(node)),
            outputs=tuple(node.output),
            reason=judge(node, graph),
            border=node.output[0] in border,
        )
        for node in graph.nodes
    ]
    return placement(accelerator, basis, nodes, graph.sizes)


def _border(graph: Graph) -> set[str]:
    """Outputs of the conversions that the camera's bytes go through first, and the logits last."""
    pixels, found = set(graph.pixels), set()
    for node in graph.nodes:
        if node.op_type in BORDER and _given(node, graph) <= pixels:
            found |= set(node.output)
            if node.op_type != "Cast":
                pixels |= set(node.output)
    last = {n.output[0] for n in graph.nodes if n.op_type in BORDER and n.output[0] in graph.logits}
    return found | last


def _given(node: NodeProto, graph: Graph) -> set[str]:
    return {graph.sources[name] for name in graph.data(node)}
