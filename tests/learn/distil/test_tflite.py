"""A bare .tflite file as a teacher: what goes in, what comes out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgekit.errors import CheckpointError, SpecError
from edgekit.learn.distil.tflite import TfliteModel
from tests.targets.conftest import HEIGHT, WIDTH, _operator, write_litert

Rewrite = Callable[[Callable[[Any, Any], None]], Path]
MEAN, STD = (0.5, 0.4, 0.3), (0.5, 0.25, 0.125)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, HEIGHT, WIDTH, 3)).astype(np.uint8)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """uint8 pixels in; out comes the mean of each channel over 16."""
    write_litert(tmp_path / "mean.tflite")
    return tmp_path / "mean.tflite"


@pytest.fixture
def rewrite(file: Path) -> Rewrite:
    """Changes that file's one graph."""

    def rewrite(change: Callable[[Any, Any], None]) -> Path:
        model = schema.ModelT.InitFromPackedBuf(file.read_bytes(), 0)
        model.signatureDefs = None
        change(model, model.subgraphs[0])
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        file.write_bytes(bytes(builder.Output()))
        return file

    return rewrite


def with_softmax(model: Any, graph: Any) -> None:
    made = schema.TensorT()
    made.name, made.type, made.shape, made.buffer = b"shares", schema.TensorType.FLOAT32, [1, 3], 0
    graph.tensors.append(made)
    last = len(graph.tensors) - 1
    softmax = _operator(schema, model, schema.BuiltinOperator.SOFTMAX, [graph.outputs[0]], [last])
    softmax.builtinOptionsType = schema.BuiltinOptions.SoftmaxOptions
    softmax.builtinOptions = schema.SoftmaxOptionsT()
    softmax.builtinOptions.beta = 1.0
    graph.operators.append(softmax)
    graph.outputs = [last]


def with_float_input(model: Any, graph: Any) -> None:
    graph.operators = graph.operators[1:]  # the CAST
    graph.inputs = [int(graph.operators[0].inputs[0])]


def with_int8_input(model: Any, graph: Any) -> None:
    model.operatorCodes[0].builtinCode = schema.BuiltinOperator.DEQUANTIZE
    model.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    image = graph.tensors[graph.inputs[0]]
    image.type = schema.TensorType.INT8
    image.quantization = schema.QuantizationParametersT()
    image.quantization.scale, image.quantization.zeroPoint = [0.02], [-7]


def test_uint8_takes_the_pixels(file: Path, pixels: np.ndarray) -> None:
    model = TfliteModel(file, (), ())
    assert (model.entry.size, model.outputs) == ((HEIGHT, WIDTH), 3)
    wanted = pixels.mean((1, 2)) / 16
    np.testing.assert_allclose(model.run(pixels), wanted, rtol=1e-5)
    assert model.run(pixels[:0]).shape == (0, 3)


def test_a_softmax_at_the_end_is_left_out(rewrite: Rewrite, pixels: np.ndarray) -> None:
    found = TfliteModel(rewrite(with_softmax), (), ()).run(pixels)
    np.testing.assert_allclose(found, pixels.mean((1, 2)) / 16, rtol=1e-5)


def test_floats_are_normalised_as_told(rewrite: Rewrite, pixels: np.ndarray) -> None:
    found = TfliteModel(rewrite(with_float_input), MEAN, STD).run(pixels)
    wanted = ((pixels / 255 - np.array(MEAN)) / np.array(STD)).mean((1, 2)) / 16
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_floats_without_a_word_are_refused(rewrite: Rewrite) -> None:
    with pytest.raises(SpecError, match="takes floats.*add 'mean' and 'std'"):
        TfliteModel(rewrite(with_float_input), (), ())


def test_int8_takes_the_pixels_less_128(rewrite: Rewrite, pixels: np.ndarray) -> None:
    found = TfliteModel(rewrite(with_int8_input), (), ()).run(pixels)
    wanted = 0.02 * (pixels.astype(int) - 128 + 7).mean((1, 2)) / 16
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_int8_is_quantised_as_its_file_says(rewrite: Rewrite, pixels: np.ndarray) -> None:
    found = TfliteModel(rewrite(with_int8_input), MEAN, STD).run(pixels)
    real = (pixels / 255 - np.array(MEAN)) / np.array(STD)
    levels = np.clip(np.rint(real / 0.02) - 7, -128, 127)
    np.testing.assert_allclose(found, 0.02 * (levels + 7).mean((1, 2)) / 16, rtol=1e-5, atol=1e-6)


def test_a_quantised_output_becomes_real_numbers(rewrite: Rewrite, pixels: np.ndarray) -> None:
    def change(model: Any, graph: Any) -> None:
        made = schema.TensorT()
        made.name, made.type, made.shape, made.buffer = b"q", schema.TensorType.UINT8, [1, 3], 0
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale, made.quantization.zeroPoint = [0.05], [3]
        graph.tensors.append(made)
        last = len(graph.tensors) - 1
        code = schema.BuiltinOperator.QUANTIZE
        graph.operators.append(_operator(schema, model, code, [graph.outputs[0]], [last]))
        graph.outputs = [last]

    found = TfliteModel(rewrite(change), (), ()).run(pixels)
    np.testing.assert_allclose(found, pixels.mean((1, 2)) / 16, atol=0.0251)
    assert found.dtype == np.float32


def test_what_is_no_classifier_of_images_is_refused(rewrite: Rewrite) -> None:
    def flat(model: Any, graph: Any) -> None:
        graph.tensors[graph.inputs[0]].shape = [1, HEIGHT * WIDTH * 3]
        graph.tensors[graph.inputs[0]].shapeSignature = [1, HEIGHT * WIDTH * 3]

    with pytest.raises((SpecError, CheckpointError), match="mean.tflite"):
        TfliteModel(rewrite(flat), (), ())


def test_a_map_is_no_answer(rewrite: Rewrite) -> None:
    def early(model: Any, graph: Any) -> None:
        graph.outputs = [int(graph.operators[0].outputs[0])]

    with pytest.raises(SpecError, match=r"1 outputs, the first output \(1, 8, 12, 3\)"):
        TfliteModel(rewrite(early), (), ())


@pytest.mark.parametrize("content", [b"", b"not a model", b"TFL3" * 20])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.tflite").write_bytes(content)
    with pytest.raises(CheckpointError, match="bad.tflite"):
        TfliteModel(tmp_path / "bad.tflite", (), ())
    with pytest.raises(CheckpointError, match="cannot read the teacher .*none.tflite"):
        TfliteModel(tmp_path / "none.tflite", (), ())
