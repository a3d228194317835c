"""A `.tflite` file's ends are rewritten; what lies between stays as it is."""

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgekit.spec import SessionOptions
from targets.litert import interface
from targets.litert.session import load

SHAPE = [1, 2, 2, 3]
KINDS = {"int8": schema.TensorType.INT8, "float32": schema.TensorType.FLOAT32}


def written(dtype: str, zero_point: int = -28, outputs: int = 1) -> bytes:
    """RELU of the input, as many times over as there are outputs; the signature is unsorted."""
    model = schema.ModelT()
    model.version, model.buffers = 3, [schema.BufferT()]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RELU
    code.version = 2
    model.operatorCodes = [code]
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = [], []
    for n in range(outputs + 1):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.hasRank = f"t{n}".encode(), SHAPE, True
        tensor.type, tensor.buffer = KINDS[dtype], 0
        if dtype == "int8":
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [0.5], [zero_point]
        graph.tensors.append(tensor)
    for n in range(outputs):
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = 0, [n], [n + 1]
        graph.operators.append(operator)
    graph.inputs, graph.outputs = [0], list(range(outputs, 0, -1))
    model.subgraphs = [graph]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    signature.inputs = [entry("args_0", 0)]
    signature.outputs = [entry(f"output_{n - 1}", n) for n in range(outputs, 0, -1)]
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def entry(name: str, index: int) -> Any:
    found = schema.TensorMapT()
    found.name, found.tensorIndex = name.encode(), index
    return found


def run(content: bytes, pixels: np.ndarray) -> dict[str, np.ndarray]:
    interpreter = Interpreter(model_content=content)
    runner = interpreter.get_signature_runner()
    found: dict[str, np.ndarray] = runner(**{next(iter(runner.get_input_details())): pixels})
    return found


@pytest.mark.parametrize("zero_point", [-128, -28, 0, 127])
def test_int8_ends_become_uint8_and_float(zero_point: int) -> None:
    content = interface.camera_in_float_out(written("int8", zero_point), "image", "logits")
    pixels = np.array([0, 1, 60, 99, 100, 101, 128, 200, 253, 254, 255, 127], np.uint8)
    found = run(content, pixels.reshape(SHAPE))["logits"]
    assert found.dtype == np.float32
    real = 0.5 * (pixels.astype(np.float32) - 128 - zero_point)
    np.testing.assert_array_equal(found.ravel(), np.maximum(real, 0))


def test_every_uint8_value_enters_as_itself_moved() -> None:
    content = interface.camera_in_float_out(written("int8", -128), "image", "logits")
    for start in range(0, 256, 12):
        pixels = (np.arange(start, start + 12) % 256).astype(np.uint8)
        found = run(content, pixels.reshape(SHAPE))["logits"]
        np.testing.assert_array_equal(found.ravel(), 0.5 * pixels)


def test_float_ends_are_only_named() -> None:
    before = written("float32")
    content = interface.camera_in_float_out(before, "image", "logits")
    pixels = np.random.default_rng(0).normal(0, 1, SHAPE).astype(np.float32)
    np.testing.assert_array_equal(
        run(content, pixels)["logits"], next(iter(run(before, pixels).values()))
    )
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    assert len(model.subgraphs[0].operators) == 1
    assert len(model.operatorCodes) == 1


def test_further_outputs_are_named_in_the_converters_order() -> None:
    content = interface.camera_in_float_out(written("int8", 0, outputs=12), "image", "logits")
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph, (signature,) = model.subgraphs[0], model.signatureDefs
    names = [graph.tensors[i].name.decode() for i in graph.outputs]
    assert names == ["logits", *(f"logits_{n}" for n in range(1, 12))]
    assert [e.name.decode() for e in signature.outputs] == names
    made_by = {op.outputs[0]: op.inputs[0] for op in graph.operators}
    assert [made_by[i] for i in graph.outputs] == list(range(1, 13)), "output_10 is after output_9"


def test_one_quantize_first_one_dequantize_last_and_one_code_each() -> None:
    content = interface.camera_in_float_out(written("int8", outputs=3), "image", "logits")
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    codes = [code.builtinCode for code in model.operatorCodes]
    kinds = [codes[op.opcodeIndex] for op in model.subgraphs[0].operators]
    operators = schema.BuiltinOperator
    assert kinds == [operators.QUANTIZE, *[operators.RELU] * 3, *[operators.DEQUANTIZE] * 3]
    assert len(codes) == len(set(codes)) == 3


def test_the_session_sees_the_names(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(interface.camera_in_float_out(written("int8"), "image", "logits"))
    session = load(path, SessionOptions(threads=1))
    assert [(s.name, s.shape, s.dtype) for s in session.inputs] == [
        ("image", tuple(SHAPE), "uint8")
    ]
    assert [(s.name, s.shape, s.dtype) for s in session.outputs] == [
        ("logits", tuple(SHAPE), "float32")
    ]
    session.close()


def test_equal_files_give_equal_bytes() -> None:
    one, two = (interface.camera_in_float_out(written("int8"), "image", "logits") for _ in range(2))
    assert one == two
    assert one[4:8] == b"TFL3"
