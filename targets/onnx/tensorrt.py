"""TensorRT's rules for explicitly quantised (Q/DQ) ONNX graphs, checked without TensorRT.

After "Explicit Quantization" in NVIDIA's TensorRT developer guide: zero points are 0, activations
have one scale, weights are constant and have one scale an output channel, and a layer runs in int8
only if all its inputs are dequantised.
"""

from collections.abc import Iterator

import numpy as np
from onnx import ModelProto, NodeProto

from edgekit.errors import SpecError
from targets.onnx.passes import constants

QUANTISABLE = ("Conv", "Gemm", "MatMul")


def check(model: ModelProto) -> None:
    """Hold an int8 graph to the rules.

    Raises:
        SpecError: names the first node that breaks one, and the rule.
    """
    for problem in problems(model):
        raise SpecError(f"TensorRT would not take this int8 graph: {problem}")


def problems(model: ModelProto) -> Iterator[str]:
    """What breaks a rule, one sentence each."""
    values = constants(model)
    producer = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            yield from _scale_problems(node, values)
        if node.op_type == "DequantizeLinear" and node.input[0] not in values:
            above = producer.get(node.input[0])
            if above is None or above.op_type != "QuantizeLinear":
                yield f"{node.name} dequantises what no QuantizeLinear made"
        if node.op_type in QUANTISABLE:
            yield from _layer_problems(node, producer, values)


def _scale_problems(node: NodeProto, values: dict[str, np.ndarray]) -> Iterator[str]:
    scale = values.get(node.input[1])
    zero_point = values.get(node.input[2]) if len(node.input) > 2 else np.zeros((), np.int8)
    if scale is None or zero_point is None:
        yield f"{node.name} has a scale or a zero point that is not constant"
        return
    if zero_point.dtype != np.int8 or np.any(zero_point):
        yield f"{node.name} has a zero point other than int8 0"
    if not np.all(scale > 0):
        yield f"{node.name} has a scale that is not positive"
    if scale.size > 1 and node.input[0] not in values:
        yield f"{node.name} has a scale per channel on an activation; it may have one"
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    if scale.ndim == 1 and scale.size > 1 and axis != 0:
        yield f"{node.name} scales a weight along axis {axis}; it must be 0, the output channel"


def _layer_problems(
    node: NodeProto, producer: dict[str, NodeProto], values: dict[str, np.ndarray]
) -> Iterator[str]:
    made_by = [producer.get(name) for name in node.input[:2]]
    quantised = [above is not None and above.op_type == "DequantizeLinear" for above in made_by]
    if any(quantised) and not all(quantised):
        yield f"{node.name} ({node.op_type}) has one quantised and one float input"
    weight = made_by[1]
    if quantised[1] and weight is not None:
        stored = values.get(weight.input[0])
        if stored is None or stored.dtype != np.int8:
            yield f"{node.name} has a quantised weight that is not a constant of int8"
