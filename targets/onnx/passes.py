"""Small rewrites of an ONNX graph, each before -> after; all in place unless said."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, numpy_helper

from targets import int4


def strip_metadata(model: ModelProto) -> None:
    """Drop what the exporter notes about the build host: paths, stack traces, its version."""
    model.producer_name, model.producer_version, model.doc_string = "edgekit", "", ""
    del model.metadata_props[:]
    graph = model.graph
    for item in (graph, *graph.node, *graph.initializer, *graph.value_info):
        item.doc_string = ""
        del item.metadata_props[:]
    for value in (*graph.input, *graph.output):
        del value.metadata_props[:]
    graph.name = "edgekit"


def name_batch(model: ModelProto, name: str) -> None:
    """Give the free first axis of every tensor its `name`: torch numbers such axes."""
    symbol = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param == symbol:
                axis.dim_param = name


PADDED = ("Conv", "MaxPool", "AveragePool")


def fold_padding(model: ModelProto, kinds: Sequence[str] = PADDED) -> None:
    """Pad(0) -> Conv  =>  Conv(pads), also with DQ and Q between; and so for pooling.

    Exact: padding shares its input's scale, and real zero is an integer of it. A max pool's own
    padding is the lowest number there is: the same where its input is never negative.
    """
    producer = {name: node for node in model.graph.node for name in node.output}
    values = constants(model)
    for node in [n for n in model.graph.node if n.op_type in kinds]:
        quantised = _upwards(node, producer, ("DequantizeLinear", "QuantizeLinear", "Pad"))
        chain = quantised or _upwards(node, producer, ("Pad",))
        if chain is None or not _is_zero_padding(chain[-1], values):
            continue
        pad = chain[-1]
        above = producer.get(pad.input[0])
        if quantised and (above is None or not _same_quantisation(above, chain[0], values)):
            continue
        if node.op_type == "MaxPool" and not _never_negative(pad, producer, values):
            continue
        given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if given.get("auto_pad", b"NOTSET") != b"NOTSET":
            continue
        before = given.get("pads", [0, 0, 0, 0])
        amounts = values[pad.input[1]].tolist()  # [n, c, top, left, n, c, bottom, right]
        pads = [a + b for a, b in zip([*amounts[2:4], *amounts[6:8]], before, strict=True)]
        if node.op_type != "Conv" and (any(before) or not _pool_pads(given, pads)):
            continue
        _set(node, "pads", pads)
        if node.op_type == "AveragePool":
            _set(node, "count_include_pad", 1)
        node.input[0] = pad.input[0]
    remove_unused(model)


def _pool_pads(given: dict[str, Any], pads: list[int]) -> bool:
    """Whether a pool may have these: no window may lie in padding alone."""
    tall, wide = given["kernel_shape"]
    return not given.get("ceil_mode") and max(pads[::2]) < tall and max(pads[1::2]) < wide


def _set(node: NodeProto, name: str, value: int | list[int]) -> None:
    for attribute in [a for a in node.attribute if a.name == name]:
        node.attribute.remove(attribute)
    node.attribute.append(onnx.helper.make_attribute(name, value))


def pool_globally(model: ModelProto) -> None:
    """ReduceMean(height and width, keepdims) => GlobalAveragePool, which has int8 kernels."""
    values = constants(model)
    shapes = {
        v.name: v.type.tensor_type.shape for v in (*model.graph.input, *model.graph.value_info)
    }
    for node in [n for n in model.graph.node if n.op_type == "ReduceMean"]:
        keeps = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
        axes = values.get(node.input[1]) if len(node.input) > 1 else None
        dims = len(shapes[node.input[0]].dim) if node.input[0] in shapes else 0
        if keeps and axes is not None and dims == 4 and sorted(axes % 4) == [2, 3]:
            node.op_type = "GlobalAveragePool"
            del node.input[1:], node.attribute[:]
    remove_unused(model)


def _is_zero_padding(pad: NodeProto, values: dict[str, np.ndarray]) -> bool:
    mode = next((a.s for a in pad.attribute if a.name == "mode"), b"constant")
    amounts = values.get(pad.input[1])
    value = values.get(pad.input[2]) if len(pad.input) > 2 and pad.input[2] else 0
    if amounts is None or value is None or len(pad.input) > 3:  # the fourth: which axes
        return False
    return mode == b"constant" and not np.any(value) and _only_around(amounts.tolist())


def _never_negative(
    node: NodeProto, producer: dict[str, NodeProto], values: dict[str, np.ndarray]
) -> bool:
    above = producer.get(node.input[0])
    while above is not None and above.op_type in ("DequantizeLinear", "QuantizeLinear"):
        above = producer.get(above.input[0])
    if above is None or above.op_type != "Clip":
        return above is not None and above.op_type in ("Relu", "Sigmoid")
    low = values.get(above.input[1]) if len(above.input) > 1 else None
    return low is not None and bool(np.all(low >= 0))


def _only_around(amounts: list[int]) -> bool:
    """Whether padding adds to height and width alone, of (N, C, H, W)."""
    return len(amounts) == 8 and not any(amounts[i] for i in (0, 1, 4, 5)) and min(amounts) >= 0


def _same_quantisation(one: NodeProto, two: NodeProto, values: dict[str, np.ndarray]) -> bool:
    """Whether two DequantizeLinear have the same scale and zero point."""
    return one.op_type == two.op_type and all(
        np.array_equal(values[a], values[b])
        for a, b in zip(one.input[1:], two.input[1:], strict=True)
    )


def use_uint8_activations(model: ModelProto) -> None:
    """int8 activations with zero point z  =>  uint8 with z + 128: the same integers, moved.

    Weights stay int8; they stand in the file as integers already.
    """
    values = constants(model)
    moved: dict[str, str] = {}
    for node in model.graph.node:
        stored = node.op_type == "DequantizeLinear" and node.input[0] in values
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or stored:
            continue
        zero_point = node.input[2]
        if zero_point not in moved:
            moved[zero_point] = f"{zero_point}_uint8"
            value = values[zero_point].astype(np.int16) + 128
            model.graph.initializer.append(
                numpy_helper.from_array(value.astype(np.uint8), moved[zero_point])
            )
        node.input[2] = moved[zero_point]
    del model.graph.value_info[:]  # their element types no longer hold
    remove_unused(model)


def pack_int4(model: ModelProto) -> None:
    """int8 weights that are all -8 to 7  =>  int4: the same integers, two in a byte.

    Their zero points are zeros, which is what DequantizeLinear takes where it is given none.
    """
    stored, known = {each.name: each for each in model.graph.initializer}, constants(model)
    for node in [n for n in model.graph.node if n.op_type == "DequantizeLinear"]:
        if node.input[0] not in stored:
            continue
        weight, values = stored[node.input[0]], known[node.input[0]]
        if weight.data_type == onnx.TensorProto.INT8 and values.min() >= -8 and values.max() <= 7:
            assert not np.any(known[node.input[2]])
            del node.input[2:]
            content, kind = int4.pack(values).tobytes(), onnx.TensorProto.INT4
            made = onnx.helper.make_tensor(weight.name, kind, values.shape, content, raw=True)
            weight.CopyFrom(made)
    del model.graph.value_info[:]  # their element types no longer hold
    remove_unused(model)


def to_fp16(model: ModelProto) -> ModelProto:
    """float32 -> float16 throughout, but for the graph's own inputs and outputs; a new model."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    half: ModelProto = convert_float_to_float16(model, keep_io_types=True)
    _sort(half)  # it puts the casts around what has no fp16 kernel at the end
    return half


def _sort(model: ModelProto) -> None:
    """Put each node after those whose outputs it reads, else in the order that they are in."""
    waiting = list(model.graph.node)
    unmade = {name for node in waiting for name in node.output}
    del model.graph.node[:]
    while waiting:
        ready = next(node for node in waiting if unmade.isdisjoint(node.input))
        model.graph.node.append(ready)
        waiting.remove(ready)
        unmade.difference_update(ready.output)


def remove_unused(model: ModelProto) -> None:
    """Drop nodes and initialisers that no output depends on."""
    graph = model.graph
    needed = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):
        if needed.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            needed.update(node.input)
    for initializer in list(graph.initializer):
        if initializer.name not in needed:
            graph.initializer.remove(initializer)


def _upwards(
    node: NodeProto, producer: dict[str, NodeProto], kinds: tuple[str, ...]
) -> list[NodeProto] | None:
    """The chain of first inputs above `node`, if its operators are just `kinds`."""
    chain: list[NodeProto] = []
    for kind in kinds:
        above = producer.get(node.input[0])
        if above is None or above.op_type != kind:
            return None
        chain.append(above)
        node = above
    return chain


def constants(model: ModelProto) -> dict[str, np.ndarray]:
    """Initialisers and Constant nodes, by name."""
    return dict(_named_arrays(model))


def _named_arrays(model: ModelProto) -> Iterator[tuple[str, np.ndarray]]:
    for initializer in model.graph.initializer:
        yield initializer.name, numpy_helper.to_array(initializer)
    for node in model.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    yield node.output[0], numpy_helper.to_array(attribute.t)
