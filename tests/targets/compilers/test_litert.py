from collections.abc import Callable
from typing import Any

import pytest
from ai_edge_litert import schema_py_generated as schema

from edgekit.spec import PRECISIONS
from targets.litert.operators import operators

Lower = Callable[..., Any]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

int8 = pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_1"])
INT8, UINT8, FLOAT, INT32 = (
    schema.TensorType.INT8,
    schema.TensorType.UINT8,
    schema.TensorType.FLOAT32,
    schema.TensorType.INT32,
)


def graph(made: Any) -> Any:
    model = schema.ModelT.InitFromPackedBuf(made.model.read_bytes(), 0)
    assert len(model.subgraphs) == 1
    return model.subgraphs[0]


@int8
def test_int8_has_no_float_island(lower: Lower, name: str) -> None:
    made = lower("litert", name, "int8")
    counts = operators(made.model)
    assert counts["QUANTIZE"] == 1
    assert counts["DEQUANTIZE"] == 1
    assert counts["TRANSPOSE"] <= 1
    assert counts["CAST"] == 0
    assert counts["CONV_2D"] > 20 or counts["DEPTHWISE_CONV_2D"] > 10
    found = graph(made)
    kinds = [tensor.type for tensor in found.tensors]
    (image,), (logits,) = found.inputs, found.outputs
    assert (kinds.pop(max(image, logits)), kinds.pop(min(image, logits))) in (
        (FLOAT, UINT8),
        (UINT8, FLOAT),
    )
    assert set(kinds) <= {INT8, INT32}, "int32: biases, shapes, axes"


@int8
def test_the_camera_enters_as_the_integers_it_gives(lower: Lower, name: str) -> None:
    found = graph(lower("litert", name, "int8"))
    first, last = found.operators[0], found.operators[-1]
    assert list(first.inputs) == list(found.inputs)
    assert list(last.outputs) == list(found.outputs)
    outside, inside = (found.tensors[i].quantization for i in (first.inputs[0], first.outputs[0]))
    assert list(outside.scale) == list(inside.scale) == [1.0]
    assert (list(outside.zeroPoint), list(inside.zeroPoint)) == ([0], [-128])


@int8
def test_weights_are_symmetric_per_channel(lower: Lower, name: str) -> None:
    found = graph(lower("litert", name, "int8"))
    seen = 0
    for operator in found.operators:
        if len(operator.inputs) == 3 and found.tensors[operator.inputs[2]].type == INT32:
            weight = found.tensors[operator.inputs[1]]
            out = weight.shape[0] if weight.shape[0] > 1 else weight.shape[-1]
            assert weight.type == INT8
            assert not any(weight.quantization.zeroPoint)
            assert len(weight.quantization.scale) == out
            seen += 1
    assert seen > 20


@int8
def test_the_delegate_takes_everything_but_the_first_conversion(lower: Lower, name: str) -> None:
    """XNNPACK has no uint8 -> int8; the built-in kernel moves 12,288 bytes."""
    (note,) = lower("litert", name, "int8").session.notes
    assert note.partition("; left to slower kernels: ")[2] in ("", "QUANTIZE")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_delegate_takes_everything_in_float(lower: Lower, precision: str) -> None:
    (note,) = lower("litert", "squeezenet1_1", precision).session.notes
    assert note.partition("; left to slower kernels: ")[2] in ("", "CAST")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_one_signature_with_the_seams_names(lower: Lower, precision: str) -> None:
    made = lower("litert", "squeezenet1_1", precision)
    model = schema.ModelT.InitFromPackedBuf(made.model.read_bytes(), 0)
    (signature,) = model.signatureDefs
    assert signature.signatureKey == b"serving_default"
    assert [entry.name for entry in signature.inputs] == [b"image"]
    assert [entry.name for entry in signature.outputs] == [b"logits"]
    assert made.model.read_bytes()[4:8] == b"TFL3"


def test_fp16_stores_its_weights_in_half(lower: Lower) -> None:
    found = graph(lower("litert", "squeezenet1_1", "fp16"))
    kinds = [tensor.type for tensor in found.tensors if len(tensor.shape) == 4 and tensor.buffer]
    assert kinds.count(schema.TensorType.FLOAT16) > 20
