"""Small rewrites of an ONNX graph, each before -> after; all in place unless said."""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, numpy_helper


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


def fold_padding(model: ModelProto) -> None:
    """DQ -> Pad(0) -> Q -> DQ -> Conv  =>  DQ -> Conv(pads).

    Exact: padding shares its input's scale, and real zero is an integer of it.
    """
    producer = {name: node for node in model.graph.node for name in node.output}
    values = constants(model)
    for conv in [n for n in model.graph.node if n.op_type == "Conv"]:
        chain = _upwards(conv, producer, ("DequantizeLinear", "QuantizeLinear", "Pad"))
        if chain is None:
            continue
        pad = chain[-1]
        amounts = values[pad.input[1]].tolist()  # [n, c, top, left, n, c, bottom, right]
        value = values.get(pad.input[2]) if len(pad.input) > 2 and pad.input[2] else 0
        mode = next((a.s for a in pad.attribute if a.name == "mode"), b"constant")
        if mode != b"constant" or np.any(value) or not _only_around(amounts):
            continue
        above = producer.get(pad.input[0])
        if above is None or not _same_quantisation(above, chain[0], values):
            continue
        before = next((a for a in conv.attribute if a.name == "pads"), None)
        pads = [*amounts[2:4], *amounts[6:8]]
        if before is not None:
            pads = [a + b for a, b in zip(pads, before.ints, strict=True)]
            conv.attribute.remove(before)
        conv.attribute.append(onnx.helper.make_attribute("pads", pads))
        conv.input[0] = pad.input[0]
    remove_unused(model)


def _only_around(amounts: list[int]) -> bool:
    """Whether padding adds to height and width alone."""
    return not any(amounts[i] for i in (0, 1, 4, 5)) and min(amounts) >= 0


def _same_quantisation(one: NodeProto, two: NodeProto, values: dict[str, np.ndarray]) -> bool:
    """Whether two DequantizeLinear have the same scale and zero point."""
    return one.op_type == two.op_type and all(
        np.array_equal(values[a], values[b])
        for a, b in zip(one.input[1:], two.input[1:], strict=True)
    )


def use_uint8_activations(model: ModelProto) -> None:
    """int8 activations with zero point z  =>  uint8 with z + 128: the same integers, moved.

    Weights stay int8.
    """
    values = constants(model)
    moved: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or node.input[0] in values:
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


def to_fp16(model: ModelProto) -> ModelProto:
    """float32 -> float16 throughout, but for the graph's own inputs and outputs; a new model."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    half: ModelProto = convert_float_to_float16(model, keep_io_types=True)
    return half


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
