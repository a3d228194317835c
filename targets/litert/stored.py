"""Store float constants of a `.tflite` file as the integers that they stand for.

    FLOAT32 weight -> CONV_2D                        before
    INT8 or INT4 weight -> DEQUANTIZE -> CONV_2D     after

Constants are found by their bytes, in the orders that TFLite has for weights: what is replaced is
the same number for number, and what is not found stays float.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from targets import int4
from targets.litert.interface import opcode
from targets.weights import Integers


@dataclass(frozen=True, slots=True)
class Stored:
    """A weight in TFLite's order of axes."""

    values: np.ndarray
    """int8, whatever the bits."""
    scales: np.ndarray
    """float32, one for each index of `axis`."""
    axis: int
    bits: int


def as_integers(content: bytes, weights: Sequence[Integers]) -> tuple[bytes, int]:
    """The model with integer weights, and how many constants were replaced."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    known = {real: stored for weight in weights for real, stored in _orders(weight)}
    found = 0
    for index, tensor in enumerate(list(graph.tensors)):
        data = model.buffers[tensor.buffer].data
        if tensor.type == schema.TensorType.FLOAT32 and data is not None and bytes(data) in known:
            _replace(model, graph, index, known[bytes(data)])
            found += 1
    used = {0, *(tensor.buffer for tensor in graph.tensors)}
    for index, buffer in enumerate(model.buffers):
        if index not in used and not any(m.buffer == index for m in model.metadata or ()):
            buffer.data = None
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output()), found


def _orders(weight: Integers) -> Iterator[tuple[bytes, Stored]]:
    """The float bytes by which a weight is found in a file, and the integers for them."""
    axes: list[tuple[tuple[int, ...], int]]
    if weight.real.dim() == 4:
        axes = [((0, 2, 3, 1), 0)]  # convolution: (O, H, W, I)
        if weight.real.shape[1] == 1:
            axes.append(((1, 2, 3, 0), 3))  # depthwise: (1, H, W, O)
    else:
        axes = [((0, 1), 0), ((1, 0), 1)]  # fully connected, or a batched product
    for order, axis in axes:
        real, values = (x.permute(order).contiguous().numpy() for x in (weight.real, weight.values))
        yield real.tobytes(), Stored(values, weight.scales.numpy(), axis, weight.bits)


def _replace(model: Any, graph: Any, index: int, stored: Stored) -> None:
    """Let the tensor `index` be made by a DEQUANTIZE of integers."""
    given = graph.tensors[index]
    buffer = schema.BufferT()
    buffer.data = (int4.pack(stored.values) if stored.bits == 4 else stored.values).view(np.uint8)
    buffer.data = buffer.data.reshape(-1)
    model.buffers.append(buffer)
    quantization = schema.QuantizationParametersT()
    quantization.scale = stored.scales.tolist()
    quantization.zeroPoint = [0] * len(stored.scales)
    quantization.quantizedDimension = stored.axis
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.hasRank = given.name + b"_stored", given.shape, given.hasRank
    tensor.type = schema.TensorType.INT4 if stored.bits == 4 else schema.TensorType.INT8
    tensor.buffer, tensor.quantization = len(model.buffers) - 1, quantization
    graph.tensors.append(tensor)
    given.buffer = 0  # the empty buffer: memory is given when the model is loaded
    operator = schema.OperatorT()
    operator.opcodeIndex = opcode(model, schema.BuiltinOperator.DEQUANTIZE)
    operator.inputs, operator.outputs = [len(graph.tensors) - 1], [index]
    graph.operators.insert(0, operator)
