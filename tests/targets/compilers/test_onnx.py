from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, NodeProto, numpy_helper

from edgekit.device.golden import difference
from edgekit.spec import Precision, Scheme
from targets.onnx import tensorrt

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
"""Integer weights alone: see tests/lower/test_weight_only.py."""
Lower = Callable[..., Any]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

Q, DQ = "QuantizeLinear", "DequantizeLinear"
# Operators of TensorRT's ONNX parser (onnx-tensorrt, docs/operators.md) that a classifier needs.
KNOWN_TO_TENSORRT = {
    *("Add", "AveragePool", "Cast", "Clip", "Concat", "Constant", "Conv", Q, DQ, "Flatten"),
    *("Gemm", "GlobalAveragePool", "Identity", "MatMul", "MaxPool", "Mul", "Pad", "ReduceMean"),
    *("Relu", "Reshape", "Squeeze", "Transpose", "Unsqueeze"),
}
int8 = pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_1"])
schemes = pytest.mark.parametrize("scheme", ["affine", "symmetric"])


def arrays(model: ModelProto) -> dict[str, np.ndarray]:
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def makers(model: ModelProto) -> dict[str, NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


def axis(node: NodeProto) -> int:
    return int(next((a.i for a in node.attribute if a.name == "axis"), 1))


def broken_rules(model: ModelProto) -> Iterator[str]:
    """TensorRT's rules for an explicitly quantised graph, written apart from the ones we ship."""
    values, made_by = arrays(model), makers(model)
    float_layers = []
    for node in model.graph.node:
        if node.op_type not in KNOWN_TO_TENSORRT or node.domain:
            yield f"TensorRT's parser does not know {node.domain}.{node.op_type}"
        if node.op_type in (Q, DQ):
            zero = values[node.input[2]] if len(node.input) > 2 else np.zeros(1, np.int8)
            scale = values[node.input[1]]
            if zero.dtype != np.int8 or zero.any() or not (scale > 0).all():
                yield f"{node.name}: zero point or scale"
            if node.input[0] in values:
                stored = values[node.input[0]]
                if stored.dtype != np.int8 or node.op_type == Q:
                    yield f"{node.name}: a weight that is not stored as int8"
                if scale.shape != stored.shape[:1] or axis(node) != 0:
                    yield f"{node.name}: a weight that is not per-channel"
            elif scale.size != 1:
                yield f"{node.name}: an activation with more than one scale"
            elif node.op_type == DQ and made_by[node.input[0]].op_type != Q:
                yield f"{node.name}: dequantises what was not quantised"
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            above = [made_by.get(name) for name in node.input[:2]]
            kinds = [maker.op_type if maker else "" for maker in above]
            if DQ not in kinds:
                float_layers.append(node)
            elif kinds != [DQ, DQ]:
                yield f"{node.name}: inputs are {kinds}"
            if len(node.input) > 2 and values[node.input[2]].dtype != np.float32:
                yield f"{node.name}: its bias is not float"
    if len(float_layers) != 1 or values[float_layers[0].input[1]].shape != (3, 1, 1, 1):
        yield f"{len(float_layers)} layers in float; the normalisation alone should be"


@int8
def test_int8_for_jetson_keeps_tensorrts_rules(lower: Lower, name: str) -> None:
    model = onnx.load(lower("onnx", name, "int8", "symmetric").model)
    assert list(broken_rules(model)) == []
    assert list(tensorrt.problems(model)) == []
    assert [(entry.domain, entry.version) for entry in model.opset_import if not entry.domain] == [
        ("", 18)
    ]
    assert sum(node.op_type == "Conv" for node in model.graph.node) > 20


def test_an_affine_graph_breaks_them(lower: Lower) -> None:
    model = onnx.load(lower("onnx", "squeezenet1_1", "int8").model)
    assert any("zero point" in problem for problem in broken_rules(model))
    assert any("zero point" in problem for problem in tensorrt.problems(model))


def first(model: ModelProto, kind: str, skip: int = 0) -> NodeProto:
    found: NodeProto = [node for node in model.graph.node if node.op_type == kind][skip]
    return found


def negative_scale(model: ModelProto) -> str:
    name = first(model, Q).input[1]
    item = next(item for item in model.graph.initializer if item.name == name)
    item.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(item), name))
    return "scale that is not positive"


def float_activation(model: ModelProto) -> str:
    conv = first(model, "Conv", 3)
    conv.input[0] = makers(model)[makers(model)[conv.input[0]].input[0]].input[0]
    return "one quantised and one float input"


def float_weight(model: ModelProto) -> str:
    dq = makers(model)[first(model, "Conv", 3).input[1]]
    item = next(item for item in model.graph.initializer if item.name == dq.input[0])
    item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item).astype(np.uint8), item.name))
    return "not a constant of int8"


def other_axis(model: ModelProto) -> str:
    dq = makers(model)[first(model, "Conv", 3).input[1]]
    next(a for a in dq.attribute if a.name == "axis").i = 1
    return "along axis 1"


def shifted(model: ModelProto) -> str:
    name = first(model, Q).input[2]
    item = next(item for item in model.graph.initializer if item.name == name)
    item.CopyFrom(numpy_helper.from_array(np.array(3, np.int8), name))
    return "zero point other than int8 0"


def dequantised_from_nothing(model: ModelProto) -> str:
    dq = makers(model)[first(model, "Conv", 3).input[0]]
    dq.input[0] = first(model, "MaxPool").output[0]
    return "dequantises what no QuantizeLinear made"


@pytest.mark.parametrize(
    "fault",
    [negative_scale, float_activation, float_weight, other_axis, shifted, dequantised_from_nothing],
    ids=lambda fault: fault.__name__,
)
def test_each_rule_is_checked(lower: Lower, fault: Callable[[ModelProto], str]) -> None:
    model = onnx.load(lower("onnx", "squeezenet1_1", "int8", "symmetric").model)
    says = fault(model)
    assert list(broken_rules(model))
    assert any(says in problem for problem in tensorrt.problems(model))


@schemes
@int8
def test_no_float_island_and_no_padding_of_its_own(lower: Lower, name: str, scheme: Scheme) -> None:
    model = onnx.load(lower("onnx", name, "int8", scheme).model)
    kinds = [node.op_type for node in model.graph.node]
    assert "Pad" not in kinds
    made_by = makers(model)
    for node in model.graph.node:
        if node.op_type in ("Add", "Concat", "MaxPool", "ReduceMean"):
            inputs = [made_by[name] for name in node.input if name in made_by]
            assert {above.op_type for above in inputs} <= {DQ, "Constant"}, node.name


def raw(model: ModelProto, inputs: list[np.ndarray]) -> np.ndarray:
    """As written: no optimisation fuses or folds anything."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.concatenate([session.run(["logits"], {"image": t})[0] for t in inputs])


@int8
def test_uint8_activations_are_the_same_integers_moved(lower: Lower, name: str) -> None:
    signed = lower("onnx", name, "int8")
    unsigned = lower("onnx", name, "int8", activations="uint8")
    before, after = onnx.load(signed.model), onnx.load(unsigned.model)
    one, two = raw(before, signed.inputs), raw(after, signed.inputs)
    assert np.abs(one).max() > 0.1
    assert np.abs(one - two).max() <= 1e-4 * np.abs(one).max()
    old, new = arrays(before), arrays(after)
    moved = 0
    for a, b in zip(before.graph.node, after.graph.node, strict=True):
        assert (a.op_type, a.input[:2], a.output) == (b.op_type, b.input[:2], b.output)
        if a.op_type in (Q, DQ) and a.input[0] not in old:
            zero = new[b.input[2]]
            assert zero.dtype == np.uint8
            assert int(zero) == int(old[a.input[2]]) + 128
            moved += 1
    assert moved > 40
    weights = [name for name, value in new.items() if value.dtype == np.int8 and value.ndim > 1]
    assert len(weights) > 20
    assert all(np.array_equal(old[name], new[name]) for name in weights)


def test_uint8_activations_are_as_near_to_torch(lower: Lower) -> None:
    made = lower("onnx", "squeezenet1_1", "int8", "affine", activations="uint8")
    assert difference(made.expected(), made.found()).snr_db > 20


@pytest.mark.parametrize("precision", PRECISIONS)
def test_metadata_is_stripped(lower: Lower, precision: str) -> None:
    model = onnx.load(lower("onnx", "squeezenet1_1", precision).model)
    assert (model.producer_name, model.producer_version) == ("edgekit", "")
    graph = model.graph
    items = (model, graph, *graph.node, *graph.initializer, *graph.value_info)
    assert not [item for item in items if item.doc_string or len(item.metadata_props)]
    assert not [value for value in (*graph.input, *graph.output) if len(value.metadata_props)]
    assert not [item for item in graph.initializer if item.external_data]
    onnx.checker.check_model(model, full_check=True)


def test_fp16_is_fp16_throughout(lower: Lower) -> None:
    model = onnx.load(lower("onnx", "squeezenet1_1", "fp16").model)
    weights = [value for value in arrays(model).values() if value.ndim > 1]
    assert len(weights) > 20
    assert {value.dtype for value in weights} == {np.dtype(np.float16)}


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_1"])
def test_no_weight_is_quantised_that_was_not_folded(lower: Lower, name: str) -> None:
    """Float weights left behind a QuantizeLinear would make the file four times as large."""
    model = onnx.load(lower("onnx", name, "int8").model)
    values = arrays(model)
    assert not [n for n in model.graph.node if n.op_type == Q and n.input[0] in values]
    left = [v for v in values.values() if v.dtype == np.float32 and v.ndim > 1]
    assert sum(value.size for value in left) <= 9
