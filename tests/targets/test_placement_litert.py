"""The forecast for XNNPACK against what LiteRT delegates, one operator at a time."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import BundleError
from edgekit.spec import SessionOptions

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

from targets.litert.placement import place  # noqa: E402  after the check that it can be
from targets.litert.session import load  # noqa: E402

F32, F16, I8, U8, I32 = (
    getattr(schema.TensorType, name) for name in ("FLOAT32", "FLOAT16", "INT8", "UINT8", "INT32")
)
SHAPE = (1, 8, 8, 16)


@dataclass(frozen=True)
class T:
    """A tensor of a model to be made; one with `data` is constant."""

    kind: int = F32
    shape: tuple[int, ...] = SHAPE
    data: Any = None
    scales: tuple[float, ...] = ()


@dataclass(frozen=True)
class Case:
    operator: str
    inputs: tuple[T, ...]
    outputs: tuple[T, ...]
    reason: str
    """Words of the reason why XNNPACK refuses it; empty: it takes it."""
    options: dict[str, Any] = field(default_factory=dict)


def i8(shape: tuple[int, ...] = SHAPE) -> T:
    return T(I8, shape, None, (0.05,))


def ints(*values: Any) -> T:
    data = np.array(values, np.int32)
    return T(I32, data.shape, data)


def pool(kind: str, like: T, reason: str, window: int = 3, stride: int = 2) -> Case:
    side = (8 - window) // stride + 1
    options = {
        "Pool2D": None, "padding": 1, "strideW": stride, "strideH": stride,
        "filterWidth": window, "filterHeight": window,
    }  # fmt: skip
    made = T(like.kind, (1, side, side, 16), None, like.scales)
    return Case(kind, (like,), (made,), reason, options)


def steps(stride: int, reason: str) -> Case:
    given = (T(), ints(0, 0, 0, 0), ints(*SHAPE), ints(1, stride, 1, 1))
    return Case(
        "STRIDED_SLICE", given, (T(shape=(1, 8 // stride, 8, 16)),), reason, {"StridedSlice": None}
    )


def concat(count: int, reason: str) -> Case:
    made = T(shape=(1, 8, 8, 16 * count))
    return Case(
        "CONCATENATION", (T(),) * count, (made,), reason, {"Concatenation": None, "axis": 3}
    )


def transpose(shape: tuple[int, ...], reason: str) -> Case:
    order = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
    made = T(shape=tuple(shape[i] for i in order))
    return Case("TRANSPOSE", (T(shape=shape), ints(*order)), (made,), reason, {"Transpose": None})


def dense(weight: Any, reason: str, activation: int = 0) -> Case:
    given = (T(shape=(1, 16)), T(shape=(8, 16), data=weight))
    options = {"FullyConnected": None, "fusedActivationFunction": activation}
    return Case("FULLY_CONNECTED", given, (T(shape=(1, 8)),), reason, options)


WEIGHT = np.ones((8, 16), np.float32)
CASES = [
    Case("HARD_SWISH", (T(),), (T(),), ""),
    Case("HARD_SWISH", (i8(),), (i8(),), "in float only"),
    Case("ELU", (i8(),), (i8(),), ""),
    Case("SIGN", (T(),), (T(),), "no SIGN"),
    Case("CAST", (T(U8),), (T(),), "no CAST", {"Cast": None, "inDataType": U8, "outDataType": F32}),
    Case("QUANTIZE", (T(U8, scales=(0.05,)),), (i8(),), "uint8 to int8"),
    Case("QUANTIZE", (T(),), (i8(),), ""),
    Case("DEQUANTIZE", (i8(),), (T(),), ""),
    Case("DEQUANTIZE", (T(F16),), (T(),), "float16 to float32"),
    Case("ADD", (i8(), i8()), (i8(),), "", {"Add": None}),
    Case("ADD", (T(I32), T(I32)), (T(I32),), "no ADD of int32", {"Add": None}),
    Case("DIV", (i8(), i8()), (i8(),), "in float only", {"Div": None}),
    Case("RESHAPE", (i8(),), (i8(),), "", {"Reshape": None, "newShape": list(SHAPE)}),
    Case(
        "RESHAPE", (i8(),), (T(I8, scales=(0.1,)),), "different scales",
        {"Reshape": None, "newShape": list(SHAPE)},
    ),
    pool("MAX_POOL_2D", T(), ""),
    pool("MAX_POOL_2D", i8(), ""),
    pool("AVERAGE_POOL_2D", T(), ""),
    pool("AVERAGE_POOL_2D", i8(), "in float only"),
    pool("AVERAGE_POOL_2D", T(), "larger than its window", window=2, stride=3),
    steps(1, ""),
    steps(2, "step is 2"),
    concat(5, ""),
    concat(6, "joins 6"),
    transpose((1, 4, 4, 2, 2, 4), ""),
    transpose((1, 1, 4, 4, 2, 2, 4), "7 axes"),
    dense(WEIGHT, ""),
    dense(WEIGHT, "", activation=3),
    dense(None, "not constant"),
]  # fmt: skip


def write(case: Case, path: Path) -> None:
    """A model of one operator."""
    flatbuffers = pytest.importorskip("flatbuffers")
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, graph.tensors = 3, [schema.BufferT()], []
    operator, code = schema.OperatorT(), schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, case.operator)
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
    operator.opcodeIndex = 0
    operator.inputs = [_add(model, graph, tensor) for tensor in case.inputs]
    operator.outputs = [_add(model, graph, tensor) for tensor in case.outputs]
    names = [f"{name}Options" for name, value in case.options.items() if value is None]
    if names:
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, names[0])
        operator.builtinOptions = getattr(schema, f"{names[0]}T")()
        for name, value in case.options.items():
            if value is not None:
                setattr(operator.builtinOptions, name, value)
    model.operatorCodes, graph.operators = [code], [operator]
    pairs = zip(operator.inputs, case.inputs, strict=True)
    graph.inputs = [index for index, tensor in pairs if tensor.data is None]
    graph.outputs = operator.outputs
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def _add(model: Any, graph: Any, wanted: T) -> int:
    tensor = schema.TensorT()
    tensor.name = f"t{len(graph.tensors)}".encode()
    tensor.shape, tensor.type, tensor.buffer = list(wanted.shape), wanted.kind, 0
    if wanted.data is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(wanted.data.tobytes(), np.uint8)
        model.buffers.append(buffer)
        tensor.buffer = len(model.buffers) - 1
    if wanted.scales:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = list(wanted.scales)
        tensor.quantization.zeroPoint = [3] * len(wanted.scales)
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.operator} {case.reason}".strip())
def test_the_rule_is_what_the_delegate_does(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    write(case, path)
    (found,) = place(path, SessionOptions()).operators
    assert (found.partition < 0) == bool(case.reason)
    assert case.reason in found.reason
    (note,) = load(path, SessionOptions(threads=1)).notes
    assert ("runs 0 of 1" in note) == bool(case.reason)


def test_a_released_bundle_is_placed_as_it_runs(root: Path) -> None:
    model = root / "tests" / "bundles" / "v1" / "raspberry-pi-int8" / "model.tflite"
    found = place(model, SessionOptions())
    left = sorted(op.kind for op in found.operators if op.partition < 0)
    (note,) = load(model, SessionOptions(threads=1)).notes
    count = len(found.operators)
    said = f"LiteRT: XNNPACK runs {count - len(left)} of {count} operators"
    assert note == said + (f"; left to slower kernels: {', '.join(left)}" if left else "")
    assert found.fallen == (), "the camera's bytes become numbers at the border"
    assert (found.accelerator, found.partitions) == ("XNNPACK", 1)
    assert found.crossing_bytes == 64 * 64 * 3, "the image, as int8"


def test_what_is_no_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot read the model"):
        place(tmp_path / "model.tflite", SessionOptions())
    (tmp_path / "model.tflite").write_bytes(b"not a model")
    with pytest.raises(BundleError, match="is not a TFLite model"):
        place(tmp_path / "model.tflite", SessionOptions())
