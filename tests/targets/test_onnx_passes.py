"""Each rewrite on a graph of a few nodes, and that the graph still computes the same."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from targets.onnx import passes


def model_of(
    nodes: Sequence[NodeProto], constants: dict[str, np.ndarray], output: str = "y"
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "made by a test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2, 6, 7))],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(model: ModelProto) -> np.ndarray:
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    x = np.random.default_rng(0).normal(0, 1, (1, 2, 6, 7)).astype(np.float32)
    found: np.ndarray = session.run(None, {"x": x})[0]
    return found


def padded(
    mode: str = "constant",
    value: float = 0.0,
    pads: Sequence[int] = (0, 0, 1, 2, 0, 0, 3, 4),
    conv_pads: Sequence[int] | None = None,
    scale: float = 0.02,
) -> ModelProto:
    """x -> Q -> DQ -> Pad -> Q -> DQ -> Conv, with an affine zero point."""
    random = np.random.default_rng(1)
    constants = {
        "s": np.float32(0.02),
        "s2": np.float32(scale),
        "z": np.int8(5),
        "amounts": np.array(pads, np.int64),
        "value": np.float32(value),
        "w": random.normal(0, 1, (3, 2, 3, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Pad", ["d", "amounts", "value"], ["p"], mode=mode),
        helper.make_node("QuantizeLinear", ["p", "s2", "z"], ["pq"]),
        helper.make_node("DequantizeLinear", ["pq", "s2", "z"], ["pd"]),
        helper.make_node("Conv", ["pd", "w"], ["y"]),
    ]
    if conv_pads is not None:
        nodes[-1].attribute.append(helper.make_attribute("pads", list(conv_pads)))
    return model_of(nodes, {name: np.asarray(value) for name, value in constants.items()})


def kinds(model: ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("conv_pads", [None, (0, 0, 0, 0), (1, 0, 2, 1)])
def test_zero_padding_is_folded_exactly(conv_pads: Sequence[int] | None) -> None:
    model = padded(conv_pads=conv_pads)
    before = run(model)
    passes.fold_padding(model)
    onnx.checker.check_model(model, full_check=True)
    assert kinds(model) == ["QuantizeLinear", "DequantizeLinear", "Conv"]
    pads = next(a for a in model.graph.node[-1].attribute if a.name == "pads").ints
    extra = conv_pads or (0, 0, 0, 0)
    assert list(pads) == [a + b for a, b in zip((1, 2, 3, 4), extra, strict=True)]
    np.testing.assert_allclose(run(model), before, rtol=1e-6, atol=1e-6)
    assert "amounts" not in {item.name for item in model.graph.initializer}


@pytest.mark.parametrize(
    "model",
    [
        padded(value=1.0),
        padded(mode="reflect"),
        padded(mode="edge"),
        padded(pads=(0, 0, 1, 1, 0, 0, -1, -1)),
        padded(pads=(1, 0, 1, 1, 0, 0, 1, 1)),
        padded(scale=0.05),
    ],
    ids=["ones", "reflect", "edge", "negative", "batch", "another scale"],
)
def test_other_padding_keeps_its_meaning(model: ModelProto) -> None:
    before = run(model)
    passes.fold_padding(model)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(run(model), before, rtol=1e-6, atol=1e-6)


def test_padding_that_something_else_reads_stays_for_it() -> None:
    model = padded()
    model.graph.node.append(helper.make_node("Relu", ["p"], ["r"]))
    model.graph.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, [None] * 4))
    before = run(model)
    passes.fold_padding(model)
    assert "Pad" in kinds(model)
    np.testing.assert_allclose(run(model), before, rtol=1e-6, atol=1e-6)


POOL = {"kernel_shape": [3, 3], "strides": [2, 2]}
RELU = helper.make_node("Relu", ["x"], ["r"])


def pooled(
    kind: str,
    before: Sequence[NodeProto] = (RELU,),
    pads: Sequence[int] = (0, 0, 1, 2, 0, 0, 1, 0),
    quantised: bool = False,
    **attributes: Any,
) -> ModelProto:
    """x -> ReLU -> (Q -> DQ ->) Pad -> (Q -> DQ ->) pool."""
    constants: dict[str, Any] = {
        "s": np.asarray(np.float32(0.02)),
        "z": np.asarray(np.int8(-100)),
        "amounts": np.array(pads, np.int64),
        "zero": np.asarray(np.float32(0)),
        "six": np.asarray(np.float32(6)),
        "low": np.asarray(np.float32(-0.5)),
    }

    def pair(source: str) -> list[NodeProto]:
        return [
            helper.make_node("QuantizeLinear", [source, "s", "z"], [f"{source}q"]),
            helper.make_node("DequantizeLinear", [f"{source}q", "s", "z"], [f"{source}d"]),
        ]

    ends = ("rd", "pd") if quantised else ("r", "p")
    nodes = [
        *before,
        *(pair("r") if quantised else ()),
        helper.make_node("Pad", [ends[0], "amounts"], ["p"]),
        *(pair("p") if quantised else ()),
        helper.make_node(kind, [ends[1]], ["y"], **{**POOL, **attributes}),
    ]
    model = model_of(nodes, constants)
    passes.remove_unused(model)
    return model


def pool_attributes(model: ModelProto) -> dict[str, object]:
    found = [(a.name, helper.get_attribute_value(a)) for a in model.graph.node[-1].attribute]
    assert len(dict(found)) == len(found), "each once"
    return dict(found)


@pytest.mark.parametrize("quantised", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("counted", [None, 0, 1])
@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
def test_a_pools_zero_padding_is_folded_exactly(
    kind: str, counted: int | None, quantised: bool
) -> None:
    counts: dict[str, Any] = (
        {} if counted is None or kind == "MaxPool" else {"count_include_pad": counted}
    )
    model = pooled(kind, quantised=quantised, pads=(0, 0, 1, 2, 0, 0, 1, 0), **counts)
    before = run(model)
    passes.fold_padding(model)
    onnx.checker.check_model(model, full_check=True)
    pairs = ["QuantizeLinear", "DequantizeLinear"] if quantised else []
    assert kinds(model) == ["Relu", *pairs, kind]
    attributes = pool_attributes(model)
    assert attributes["pads"] == [1, 2, 1, 0]
    assert attributes.get("count_include_pad", 0) == (kind == "AveragePool")
    np.testing.assert_allclose(run(model), before, rtol=1e-6, atol=1e-6)


def clip(*bounds: str) -> NodeProto:
    return helper.make_node("Clip", ["x", *bounds], ["r"])


@pytest.mark.parametrize("before", [clip("zero", "six"), helper.make_node("Sigmoid", ["x"], ["r"])])
def test_a_max_pool_may_follow_whatever_is_never_negative(before: NodeProto) -> None:
    model = pooled("MaxPool", [before])
    expected = run(model)
    passes.fold_padding(model)
    assert "Pad" not in kinds(model)
    np.testing.assert_array_equal(run(model), expected)


KEPT = {
    "max of negatives": pooled("MaxPool", [helper.make_node("Neg", ["x"], ["r"])]),
    "max of a lower clip": pooled("MaxPool", [clip("low", "six")]),
    "max of a clip from above": pooled("MaxPool", [clip("", "six")]),
    "max, ceil": pooled("MaxPool", ceil_mode=1),
    "max of padding alone": pooled("MaxPool", pads=(0, 0, 3, 0, 0, 0, 0, 0)),
    "average, ceil": pooled("AveragePool", ceil_mode=1),
    "average of padding alone": pooled("AveragePool", pads=(0, 0, 0, 3, 0, 0, 0, 0)),
    "filled by name": pooled("AveragePool", auto_pad="SAME_UPPER"),
}


@pytest.mark.parametrize("model", KEPT.values(), ids=KEPT)
def test_other_pools_keep_their_padding(model: ModelProto) -> None:
    before = run(model)
    passes.fold_padding(model)
    onnx.checker.check_model(model, full_check=True)
    assert "Pad" in kinds(model)
    np.testing.assert_allclose(run(model), before, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
def test_a_pool_that_pads_itself_keeps_what_is_padded_before(kind: str) -> None:
    model = pooled(kind, pads=(0, 0, 1, 1, 0, 0, 1, 1))
    model.graph.node[-1].attribute.append(helper.make_attribute("pads", [1, 1, 1, 1]))
    before = run(model)
    passes.fold_padding(model)
    assert "Pad" in kinds(model)
    np.testing.assert_allclose(run(model), before, rtol=1e-6, atol=1e-6)


def test_padding_by_what_is_not_a_constant_stays() -> None:
    for changed in (1, 2):
        model = padded()
        pad = model.graph.node[2]
        name = pad.input[changed]
        model.graph.node.insert(0, helper.make_node("Identity", [name], ["computed"]))
        pad.input[changed] = "computed"
        before = run(model)
        passes.fold_padding(model)
        assert "Pad" in kinds(model)
        np.testing.assert_array_equal(run(model), before)


def test_padding_of_some_axes_stays() -> None:
    model = padded(pads=(1, 2, 3, 4))
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    model.graph.node[2].input.append("axes")
    before = run(model)
    passes.fold_padding(model)
    np.testing.assert_array_equal(run(model), before)


def averaged(
    axes: Sequence[int], keeps: int | None = 1, shape: Sequence[int] = (1, 2, 6, 7)
) -> ModelProto:
    """x -> Reshape -> ReduceMean."""
    kept: dict[str, Any] = {} if keeps is None else {"keepdims": keeps}
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["v"]),
        helper.make_node("ReduceMean", ["v", "axes"], ["y"], **kept),
    ]
    constants = {"shape": np.array(shape, np.int64), "axes": np.array(axes, np.int64)}
    model = model_of(nodes, constants)
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(model)


@pytest.mark.parametrize("axes", [(2, 3), (3, 2), (-2, -1), (2, -1)])
@pytest.mark.parametrize("keeps", [None, 1])
def test_a_mean_over_height_and_width_is_global_pooling(
    axes: Sequence[int], keeps: int | None
) -> None:
    model = averaged(axes, keeps)
    before = run(model)
    passes.pool_globally(model)
    onnx.checker.check_model(model, full_check=True)
    assert kinds(model) == ["Reshape", "GlobalAveragePool"]
    assert "axes" not in passes.constants(model)
    np.testing.assert_allclose(run(model), before, rtol=1e-6, atol=1e-6)


MEANS = {
    "without its axes": averaged((2, 3), keeps=0),
    "one axis": averaged((3,)),
    "channels": averaged((1, 2)),
    "all": averaged((0, 1, 2, 3)),
    "five axes": averaged((2, 3), shape=(1, 2, 2, 3, 7)),
    "the last two of five": averaged((-2, -1), shape=(1, 2, 2, 3, 7)),
    "three axes": averaged((1, 2), shape=(2, 6, 7)),
}


@pytest.mark.parametrize("model", MEANS.values(), ids=MEANS)
def test_other_means_stay(model: ModelProto) -> None:
    content = model.SerializeToString(deterministic=True)
    passes.pool_globally(model)
    assert model.SerializeToString(deterministic=True) == content


def test_a_mean_of_what_has_no_known_shape_stays() -> None:
    model = averaged((2, 3))
    del model.graph.value_info[:]
    before = run(model)
    passes.pool_globally(model)
    assert kinds(model) == ["Reshape", "ReduceMean"]
    np.testing.assert_array_equal(run(model), before)


def test_a_graph_without_padding_is_left() -> None:
    model = padded()
    del model.graph.node[2:5]
    model.graph.node[2].input[0] = "d"
    passes.remove_unused(model)
    content = model.SerializeToString(deterministic=True)
    passes.fold_padding(model)
    assert model.SerializeToString(deterministic=True) == content


def test_uint8_activations() -> None:
    weight = np.arange(-18, 18, dtype=np.int8).reshape(2, 2, 3, 3)
    constants: dict[str, np.ndarray] = {
        "s": np.asarray(np.float32(0.02)),
        "z": np.asarray(np.int8(-7)),
        "w": weight,
        "ws": np.array([0.1, 0.2], np.float32),
        "wz": np.zeros(2, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("Conv", ["d", "wd"], ["y"]),
    ]
    model = model_of(nodes, constants)
    before = run(model)
    passes.use_uint8_activations(model)
    onnx.checker.check_model(model, full_check=True)
    values = passes.constants(model)
    quantise, dequantise, weights, _ = model.graph.node
    assert quantise.input[2] == dequantise.input[2]
    zero = values[quantise.input[2]]
    assert (zero.dtype, int(zero)) == (np.dtype(np.uint8), 121)
    np.testing.assert_array_equal(values[weights.input[0]], weight)
    assert values[weights.input[2]].dtype == np.int8
    assert "z" not in values
    np.testing.assert_array_equal(run(model), before)


def test_a_constant_that_is_quantised_in_the_graph_moves_too() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("QuantizeLinear", ["gain", "s", "z"], ["gq"]),
        helper.make_node("DequantizeLinear", ["gq", "s", "z"], ["gd"]),
        helper.make_node("Mul", ["d", "gd"], ["y"]),
    ]
    constants: dict[str, np.ndarray] = {
        "s": np.asarray(0.05, np.float32),
        "z": np.asarray(-7, np.int8),
        "gain": np.linspace(-1, 1, 2, dtype=np.float32).reshape(1, 2, 1, 1),
    }
    model = model_of(nodes, constants)
    before = run(model)
    passes.use_uint8_activations(model)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_array_equal(run(model), before)


def test_the_extremes_of_int8_move_to_those_of_uint8() -> None:
    for given, wanted in ((-128, 0), (127, 255)):
        model = padded()
        item = next(item for item in model.graph.initializer if item.name == "z")
        item.CopyFrom(numpy_helper.from_array(np.asarray(np.int8(given)), "z"))
        passes.use_uint8_activations(model)
        assert int(passes.constants(model)[model.graph.node[0].input[2]]) == wanted


def test_fp16_leaves_each_node_after_those_that_it_reads() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("TopK", ["r", "k"], ["t", "places"]),
        helper.make_node("Mul", ["t", "t"], ["y"]),
    ]
    half = passes.to_fp16(model_of(nodes, {"k": np.asarray([3], np.int64)}))
    made = {"x", *(item.name for item in half.graph.initializer)}
    for node in half.graph.node:
        assert made.issuperset(node.input), node.name
        made.update(node.output)
    assert run(half).shape == (1, 2, 6, 3)


def test_metadata() -> None:
    model = padded()
    before = run(model)
    graph = model.graph
    graph.value_info.append(helper.make_tensor_value_info("q", TensorProto.INT8, None))
    model.producer_name, model.producer_version, model.doc_string = "exporter", "2.13", "a doc"
    marked = (model, *graph.node, *graph.initializer, *graph.value_info)
    for item in (*marked, graph, *graph.input, *graph.output):
        item.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="File /home/me/net.py")
    for item in (*marked, graph):
        item.doc_string = "File /home/me/net.py"
    passes.strip_metadata(model)
    content = model.SerializeToString()
    for text in (b"/home", b"stack_trace", b"exporter", b"2.13", b"a doc", b"made by a test"):
        assert text not in content
    assert model.producer_name == "edgekit"
    np.testing.assert_array_equal(run(model), before)


def test_what_nothing_reads_is_dropped_and_nothing_else() -> None:
    model = padded()
    graph = model.graph
    graph.node.insert(0, helper.make_node("Relu", ["x"], ["r0"]))
    graph.node.insert(1, helper.make_node("Relu", ["r0"], ["r1"]))
    graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "unused"))
    before, names = run(model), {item.name for item in graph.initializer}
    passes.remove_unused(model)
    assert "Relu" not in kinds(model)
    assert {item.name for item in graph.initializer} == names - {"unused"}
    np.testing.assert_array_equal(run(model), before)


def test_constants_are_found_in_both_of_their_forms() -> None:
    model = padded()
    value = numpy_helper.from_array(np.arange(3.0), "inside")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=value))
    found = passes.constants(model)
    np.testing.assert_array_equal(found["c"], [0, 1, 2])
    assert {"w", "s", "z", "amounts"} <= set(found)
    assert "x" not in found


def test_fp16_keeps_float_at_both_ends() -> None:
    model = padded()
    weights = numpy_helper.from_array(np.ones((3, 2, 3, 3), np.float32), "w")
    model = model_of([helper.make_node("Conv", ["x", "w"], ["y"])], {})
    model.graph.initializer.append(weights)
    before = run(model)
    half = passes.to_fp16(model)
    ends = [value.type.tensor_type.elem_type for value in (*half.graph.input, *half.graph.output)]
    assert ends == [TensorProto.FLOAT, TensorProto.FLOAT]
    assert passes.constants(half)["w"].dtype == np.float16
    np.testing.assert_allclose(run(half), before, atol=0.02)
