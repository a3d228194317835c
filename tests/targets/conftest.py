"""The same small network for every backend: logits are the mean of each colour channel over 16."""

import gc
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HEIGHT, WIDTH = 8, 12


def write_onnx(path: Path, batch: int | str = 1) -> None:
    """As ONNX; `batch` may be a name, for an axis that is left free."""
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["real", "axes"], ["mean"], keepdims=0),
            helper.make_node("Div", ["mean", "sixteen"], ["logits"]),
        ],
        "mean_colour",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, HEIGHT, WIDTH, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3])],
        [
            helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor("sixteen", TensorProto.FLOAT, [1], [16.0]),
        ],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), str(path))


def write_litert(path: Path, batch: int | str = 1) -> None:
    """As a TFLite flatbuffer, written through its schema: CAST, MEAN, MUL, and a signature."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT()
    model.version = 3
    graph = schema.SubGraphT()
    model.buffers = [_buffer(schema, b""), _buffer(schema, b"")]
    free = -1 if isinstance(batch, str) else batch

    def tensor(name: str, shape: list[int], kind: int, data: bytes = b"") -> int:
        made = schema.TensorT()
        made.name, made.type = name.encode(), kind
        made.shape, made.shapeSignature = [abs(size) for size in shape], shape
        made.buffer = len(model.buffers) if data else 0
        if data:
            model.buffers.append(_buffer(schema, data))
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    graph.tensors = []
    real, integer, byte = (
        schema.TensorType.FLOAT32,
        schema.TensorType.INT32,
        schema.TensorType.UINT8,
    )
    image = tensor("image", [free, HEIGHT, WIDTH, 3], byte)
    cast = tensor("cast", [free, HEIGHT, WIDTH, 3], real)
    axes = tensor("axes", [2], integer, np.array([1, 2], np.int32).tobytes())
    mean = tensor("mean", [free, 3], real)
    scale = tensor("scale", [1], real, np.array([1 / 16], np.float32).tobytes())
    logits = tensor("logits", [free, 3], real)
    operators = schema.BuiltinOperator
    graph.operators = [
        _operator(schema, model, operators.CAST, [image], [cast]),
        _operator(schema, model, operators.MEAN, [cast, axes], [mean]),
        _operator(schema, model, operators.MUL, [mean, scale], [logits]),
    ]
    graph.inputs, graph.outputs = [image], [logits]
    model.subgraphs = [graph]
    model.signatureDefs = [_signature(schema, image, logits)]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def _buffer(schema: Any, data: bytes) -> Any:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(data, np.uint8) if data else None
    return buffer


def _operator(schema: Any, model: Any, code: int, inputs: list[int], outputs: list[int]) -> Any:
    entry = schema.OperatorCodeT()
    entry.builtinCode = entry.deprecatedBuiltinCode = code
    entry.version = 1
    model.operatorCodes = [*(model.operatorCodes or []), entry]
    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = inputs, outputs
    return operator


def _signature(schema: Any, image: int, logits: int) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey = b"serving_default"
    signature.subgraphIndex = 0
    for name, index, entries in (("image", image, "inputs"), ("logits", logits, "outputs")):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), index
        setattr(signature, entries, [entry])
    return signature


def write_coreml(path: Path, batch: int | str = 1) -> None:
    """As a Core ML package, whose input is an image: what may be free of it is its height."""
    pytest.importorskip("coremltools")
    from targets.coreml import package
    from targets.coreml.toolkit import coremltools

    ct = coremltools("testing")
    from coremltools.converters.mil import Builder as mb  # noqa: N813

    shape = (1, 3, HEIGHT, WIDTH)

    def mean_colour(image: Any) -> Any:
        mean = mb.reduce_mean(x=image, axes=[2, 3], keep_dims=False)
        return mb.real_div(x=mean, y=np.float32(16), name="logits")

    made = mb.program(input_specs=[mb.TensorSpec(shape=shape)], opset_version=ct.target.iOS17)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves its folders to the collector
        converted = ct.convert(
            made(mean_colour),
            inputs=[ct.ImageType(name="image", shape=shape)],
            convert_to="mlprogram",
            compute_precision=ct.precision.FLOAT32,
            minimum_deployment_target=ct.target.iOS17,
            skip_model_load=True,
        )
        message = converted.get_spec()
        if isinstance(batch, str):
            image = message.description.input[0].type.imageType
            image.imageSizeRange.heightRange.upperBound = -1
        content = message.SerializeToString(deterministic=True)
        package.write(path, content, Path(converted.weights_dir))
        del converted
        gc.collect()


def write_executorch(path: Path, batch: int | str = 1) -> None:
    """As a `.pte`, by ExecuTorch itself; a batch that is left free is 1 to 4."""
    path.write_bytes(_pte(free=isinstance(batch, str)))


@cache
def _pte(free: bool) -> bytes:
    import torch
    from torch import Tensor, nn

    class MeanColour(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image.float().mean((1, 2)) / 16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ExecuTorch's own
        from executorch.exir import to_edge_transform_and_lower

        sample = torch.zeros(2 if free else 1, HEIGHT, WIDTH, 3, dtype=torch.uint8)
        sizes = {0: torch.export.Dim("batch", min=1, max=4)} if free else None
        program = torch.export.export(MeanColour(), (sample,), dynamic_shapes=(sizes,))
        return bytes(to_edge_transform_and_lower(program).to_executorch().buffer)


WRITERS: dict[str, tuple[str, Callable[[Path, int | str], None]]] = {
    "coreml": (".mlpackage", write_coreml),
    "litert": (".tflite", write_litert),
    "onnx": (".onnx", write_onnx),
    "openvino": (".onnx", write_onnx),
    "executorch": (".pte", write_executorch),
}
"""Backend -> how the small network's file is called, and how it is written."""


@pytest.fixture(params=WRITERS)
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend that has a session."""
    return str(request.param)


@pytest.fixture
def model(backend: str, tmp_path: Path) -> Path:
    """The small network's file."""
    suffix, write = WRITERS[backend]
    path = tmp_path / f"model{suffix}"
    write(path, 1)
    return path


@pytest.fixture
def onnx_model(tmp_path: Path) -> Path:
    """The small network as ONNX."""
    path = tmp_path / "model.onnx"
    write_onnx(path)
    return path


@pytest.fixture
def free_model(backend: str, tmp_path: Path) -> Path:
    """The same with a batch axis of any length."""
    suffix, write = WRITERS[backend]
    path = tmp_path / f"free{suffix}"
    write(path, "N")
    return path
