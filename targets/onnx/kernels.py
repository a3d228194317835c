"""What TensorRT and ONNX Runtime's CPU provider take: rules on one operator of a graph.

TensorRT: the support matrix that NVIDIA publishes with its ONNX parser
(https://github.com/onnx/onnx-tensorrt, docs/operators.md, TensorRT 8.6) and "Explicit Quantization"
in its developer guide. The CPU provider: which Q/DQ groups it turns into integer kernels, as its
optimised graphs show.
"""

import numpy as np
from onnx import NodeProto

from targets.onnx.reading import Graph, Step


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


TENSORRT = _names(
    """Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization
    Cast Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum
    DepthToSpace Div Dropout Einsum Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements
    GatherND Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GRU
    HardSigmoid HardSwish Identity If InstanceNormalization IsNaN LayerNormalization LeakyRelu Less
    LessOrEqual Log LogSoftmax Loop LpNormalization LpPool LRN LSTM MatMul Max MaxPool Mean
    MeanVarianceNormalization Min Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow
    Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize RNN RoiAlign Round Scan ScatterElements
    ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign
    SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu
    Unsqueeze Upsample Where Xor"""
)
TENSORRT_TYPES = frozenset(("FLOAT", "FLOAT16", "INT8", "INT32", "INT64", "BOOL"))
POOLS = ("AveragePool", "MaxPool", "LpPool")

INTEGER = _names(
    """Add AveragePool Concat Conv Gemm GlobalAveragePool LeakyRelu MatMul Mul Sigmoid
    Softmax"""
)
"""ONNX Runtime computes these in integers between Q and DQ."""
MOVES = _names(
    """Expand Flatten Gather Identity MaxPool Reshape Resize Slice Split Squeeze Tile Transpose
    Unsqueeze"""
)
"""These only move integers, or compare them."""


def tensorrt(node: NodeProto, graph: Graph) -> str:
    """Why TensorRT refuses `node`; empty if it takes it."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in TENSORRT:
        return f"TensorRT has no {node.op_type}"
    for name in (*graph.data(node), *node.output):
        kind = graph.kinds.get(name, "FLOAT")
        if kind not in TENSORRT_TYPES:
            return f"TensorRT has no {node.op_type} of {kind.lower()}"
    for name in graph.data(node):
        step = graph.steps.get(graph.sources[name])
        if step and name in graph.arrived and (step.zero_point or step.dtype != "int8"):
            return "its input is quantised with a zero point; TensorRT's int8 has none"
    if node.op_type in POOLS and graph.ranks.get(node.output[0], 4) not in (4, 5):
        return "TensorRT pools in two or three dimensions only"
    if node.op_type == "MaxPool" and len(node.output) > 1:
        return "TensorRT does not give the indices of a max pool"
    return ""


def cpu(node: NodeProto, graph: Graph) -> str:
    """Why the CPU provider computes `node` in float32 instead of the model's own numbers."""
    if graph.steps:
        return _integer(node, graph)
    halves = {graph.kinds.get(name) for name in (*graph.data(node), *node.output)}
    if "FLOAT16" in halves and node.op_type not in ("Cast", *MOVES):
        return "the CPU provider has no fp16 kernel for it on x86-64: float32 between two casts"
    return ""


def _integer(node: NodeProto, graph: Graph) -> str:
    kind = node.op_type
    if _is_absorbed(node, graph):
        return ""
    if kind not in INTEGER | MOVES:
        return f"the CPU provider has no integer {kind}: it is computed in float32"
    if not all(comes_quantised(name, graph) for name in graph.data(node)):
        return "an input comes in float32, unquantised"
    return "" if _goes(node.output[0], graph) else "its output is needed in float32, unquantised"


def comes_quantised(name: str, graph: Graph) -> bool:
    """Whether a tensor comes in integers: quantised itself, or moved from where it was."""
    maker = graph.makers.get(name)
    if name in graph.arrived or maker is None or maker.op_type not in MOVES:
        return name in graph.arrived
    return all(comes_quantised(given, graph) for given in graph.data(maker))


def _goes(name: str, graph: Graph) -> bool:
    """Whether an output goes on in integers: quantised itself, or after an activation or a move."""
    after = graph.users(name)
    if name in graph.steps or (len(after) == 1 and _is_absorbed(after[0], graph)):
        return True
    return bool(after) and all(
        user.op_type in MOVES and _goes(user.output[0], graph) for user in after
    )


def _is_absorbed(node: NodeProto, graph: Graph) -> bool:
    """Whether `node` is an activation that rounding to its output's range does anyway."""
    step = graph.steps.get(node.output[0])
    if step is None or node.op_type not in ("Relu", "Clip"):
        return False
    ends = _ends(step)
    low, high = (0.0, np.inf) if node.op_type == "Relu" else _limits(node, graph)
    nearly = step.scale / 2
    return ends[0] >= low - nearly and ends[1] <= high + nearly


def _ends(step: Step) -> tuple[float, float]:
    """The least and the largest number that the integers stand for."""
    info = np.iinfo(step.dtype)
    return step.scale * (info.min - step.zero_point), step.scale * (info.max - step.zero_point)


def _limits(node: NodeProto, graph: Graph) -> tuple[float, float]:
    given = [graph.values.get(name) for name in (*node.input[1:3], "", "")][:2]
    low, high = (None if value is None else float(value) for value in given)
    return (-np.inf if low is None else low, np.inf if high is None else high)
