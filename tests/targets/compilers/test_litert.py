from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from torch import Tensor, nn

from edgekit import plugins
from edgekit.device.golden import difference
from edgekit.lower import export
from edgekit.lower.forms.canonical import canonical
from edgekit.lower.gate import parity
from edgekit.lower.int8.quantise import quantise
from edgekit.lower.network import Network
from edgekit.spec import Artifact, ImageSpec, Precision, SessionOptions
from targets.litert import layout
from targets.litert.compiler import compile
from targets.litert.operators import operators

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
"""Integer weights alone: see tests/lower/test_weight_only.py."""
Lower = Callable[..., Any]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

LABELS = tuple("abcdefg")
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


class Equal(nn.Module):
    """Layers whose biases are all equal, and whose channels' scales differ by up to 30."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 1)
        self.last = nn.Linear(8, len(LABELS))
        for layer in (self.first, self.second, self.last):
            factors = torch.logspace(-1.5, 0, layer.weight.shape[0])
            layer.weight.data.mul_(factors.view(-1, *[1] * (layer.weight.dim() - 1)))
            nn.init.constant_(layer.get_parameter("bias"), 0.5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(torch.relu(self.second(self.first(x))).mean((2, 3)))
        return logits


class Shuffled(nn.Module):
    """Channel shuffle between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 12, 3, 2, 1), nn.Conv2d(12, 12, 3, 2, 1, groups=3)
        self.last = nn.Linear(12, len(LABELS))

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.first(x)), 3, 2, 1)
        x = self.second(nn.functional.channel_shuffle(x, 3))
        logits: Tensor = self.last(nn.functional.avg_pool2d(x, 3, 1, 1).mean((2, 3)))
        return logits


def lowered(
    module: nn.Module, precision: Precision, tensors: list[Tensor], folder: Path
) -> tuple[Artifact, np.ndarray, np.ndarray]:
    """The file, and 12 rows of logits before and after."""
    network = Network("small", module.eval(), ImageSpec(64, 64), LABELS, {}, "")
    pixels = export.example(network)
    program = canonical(export.export(export.with_camera_input(network), pixels), pixels)
    if precision == "int8":
        program = quantise(program.module(check_guards=False), tensors, "affine")
    inputs = [tensor.numpy() for tensor in tensors[:12]]
    expected = parity.run_module(program.module(check_guards=False), inputs)
    artifact = compile(program, export.model_spec(network, precision, "affine"), {}, folder)
    session = plugins.loader("litert")(artifact.model, SessionOptions(threads=1))
    found = parity.run_session(session, inputs)
    session.close()
    return artifact, expected, found


def test_biases_that_are_all_equal_keep_their_value(tensors: list[Tensor], tmp_path: Path) -> None:
    torch.manual_seed(0)
    _, expected, found = lowered(Equal(), "int8", tensors, tmp_path)
    assert difference(expected, found).snr_db > 35


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_channel_shuffle_is_one_transpose(
    tensors: list[Tensor], tmp_path: Path, precision: Precision
) -> None:
    """Nothing else moves: padding, pooling and grouped convolutions are in (N, H, W, C), too."""
    torch.manual_seed(0)
    artifact, expected, found = lowered(Shuffled(), precision, tensors, tmp_path)
    assert difference(expected, found).snr_db > (35 if precision == "int8" else 90)
    counts = operators(artifact.model)
    assert counts["TRANSPOSE"] == 1
    assert counts["RESHAPE"] <= 2, "apart and together"
    assert artifact.notes == ("channel shuffles: 1, a transpose each",)


def test_the_converter_is_left_as_it_was() -> None:
    from litert_torch._convert.fx_passes.optimize_layout_transposes_pass import layout_rewrite

    before = dict(layout_rewrite.rewriters)
    with layout.taught():
        assert len(layout_rewrite.rewriters) > len(before)
        with layout.taught():
            pass
        assert len(layout_rewrite.rewriters) > len(before)
    assert layout_rewrite.rewriters == before
    with pytest.raises(ZeroDivisionError), layout.taught():
        raise ZeroDivisionError
    assert layout_rewrite.rewriters == before


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
