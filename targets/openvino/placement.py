"""What OpenVINO's CPU plugin computes in a model's own numbers, and what in float32 instead.

The plugin runs the whole graph, or refuses it when it is loaded; nothing goes elsewhere. In an int8
file a convolution or a product of matrices that gets floats is computed in floats, which is the
fallback that is counted here. The session's notes say what was really compiled.
"""

from pathlib import Path

from onnx import NodeProto

from edgekit.spec import Placement, SessionOptions
from targets.onnx.kernels import comes_quantised
from targets.onnx.reading import Graph, read
from targets.partitions import Node, placement

BASIS = "how OpenVINO 2026.4 compiles Q/DQ graphs for x86-64, from the file alone"
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
BORDER = ("Cast", "Identity", "Transpose")
PIXELS = "the camera's bytes are brought to float32 by the first convolution"
UNQUANTISED = "an input comes in float32, unquantised"


def place(model: Path, options: SessionOptions) -> Placement:
    """Judge every operator of the graph.

    Raises:
        BundleError: the file cannot be read, or is no ONNX model.
    """
    graph = read(model)
    pixels = set(graph.pixels)
    nodes = []
    for node in graph.nodes:
        given = tuple(graph.sources[name] for name in graph.data(node))
        first = bool(graph.steps) and set(given) <= pixels
        border = first and node.op_type in (*BORDER, "Conv")
        pixels |= set(node.output) if first and node.op_type in BORDER else set()
        reason = PIXELS if border else _refusal(node, graph)
        name = node.name or node.output[0]
        nodes.append(Node(name, node.op_type, given, tuple(node.output), reason, border))
    return placement("OpenVINO's CPU plugin", BASIS, nodes, graph.sizes)


def _refusal(node: NodeProto, graph: Graph) -> str:
    """Why the weights meet floats in an int8 file; empty where they do not, or it is none."""
    if not graph.steps or node.op_type not in WEIGHTED:
        return ""
    fits = all(comes_quantised(name, graph) for name in graph.data(node))
    return "" if fits else UNQUANTISED
