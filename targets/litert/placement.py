"""What XNNPACK takes of a `.tflite` file, told from the file alone.

The rules are those of the delegate in LiteRT 2.3, each tried on that runtime with a model of one
operator; `tests/targets/test_placement_litert.py` holds the forecast to what it really delegates.
LiteRT runs the rest with its built-in kernels, which for int8 are several times slower.
"""

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgekit.errors import BundleError
from edgekit.spec import Placement, SessionOptions
from targets.litert.xnnpack import Operator, Tensor, refusal
from targets.partitions import Node, placement

BASIS = "rules of the XNNPACK delegate in LiteRT 2.3, from the file alone; the same on Arm and x86"
CONVERSIONS = ("CAST", "QUANTIZE", "DEQUANTIZE")

_BYTES = {"FLOAT16": 2, "INT16": 2, "FLOAT32": 4, "INT32": 4, "INT64": 8, "FLOAT64": 8}
_TYPES = {v: k for k, v in vars(schema.TensorType).items() if k.isupper()}
_KINDS = {v: k for k, v in vars(schema.BuiltinOperator).items() if k[0].isupper()}


def place(model: Path, options: SessionOptions) -> Placement:
    """Judge every operator of the main graph.

    Raises:
        BundleError: the file cannot be read, or is no TFLite model.
    """
    try:
        content = model.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read the model {model}: {error.strerror}") from error
    if content[4:8] != b"TFL3":
        raise BundleError(f"{model} is not a TFLite model")
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = file.subgraphs[0]
    tensors = [_tensor(tensor, _data(file, tensor, content)) for tensor in graph.tensors]
    for stored in graph.operators:  # weights may stand behind a DEQUANTIZE each, run once
        source, result = tensors[stored.inputs[0]], int(stored.outputs[0])
        if source.data and source.dtype in ("FLOAT16", "INT8"):
            tensors[result] = replace(tensors[result], data=source.data)
    nodes = [_node(file, graph, index, tensors) for index in range(len(graph.operators))]
    sizes = {str(i): 0 if tensor.data else tensor.bytes for i, tensor in enumerate(tensors)}
    return placement("XNNPACK", BASIS, nodes, sizes)


def _node(file: Any, graph: Any, index: int, tensors: list[Tensor]) -> Node:
    stored = graph.operators[index]
    code = file.operatorCodes[stored.opcodeIndex]
    given = [int(i) for i in stored.inputs if i >= 0]
    made = [int(i) for i in stored.outputs]
    operator = Operator(
        kind=_KINDS[max(code.builtinCode, code.deprecatedBuiltinCode)],
        inputs=tuple(tensors[i] for i in given),
        outputs=tuple(tensors[i] for i in made),
        options=stored.builtinOptions,
    )
    shape = "x".join(map(str, operator.outputs[0].shape))  # its name is the converter's own
    ends = bool({*given, *made} & {*map(int, graph.inputs), *map(int, graph.outputs)})
    return Node(
        name=f"operator {index} ({shape})",
        kind=operator.kind,
        inputs=tuple(map(str, given)),
        outputs=tuple(map(str, made)),
        reason=refusal(operator),
        border=ends and operator.kind in CONVERSIONS,
    )


def _data(file: Any, stored: Any, content: bytes) -> bytes:
    """A constant's bytes: in the graph's own buffer, or further back in the file."""
    buffer = file.buffers[stored.buffer]
    if buffer.data is None:
        return content[buffer.offset : buffer.offset + buffer.size]
    return bytes(buffer.data)


def _tensor(stored: Any, data: bytes) -> Tensor:
    shape = tuple(int(size) for size in stored.shape) if stored.shape is not None else ()
    dtype = _TYPES[stored.type]
    found = stored.quantization
    pairs: tuple[tuple[float, int], ...] = ()
    if found is not None and found.scale is not None:
        pairs = tuple(zip(map(float, found.scale), map(int, found.zeroPoint), strict=False))
    return Tensor(
        shape=shape,
        dtype=dtype,
        data=data,
        quantization=pairs,
        bytes=prod(shape) * _BYTES.get(dtype, 1),
    )
