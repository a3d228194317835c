"""An ONNX graph with its Q/DQ pairs taken out and remembered.

Conv -> Q(scale, zero point) -> DQ -> Relu   =>   Conv -> Relu, and Conv's output is quantised
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

from edgekit.errors import BundleError
from targets.onnx.passes import constants

QUANTISERS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True, slots=True)
class Step:
    """How a tensor is quantised."""

    scale: float
    zero_point: int
    dtype: str
    """`int8` or `uint8`."""


@dataclass(frozen=True, slots=True)
class Graph:
    """What an execution provider judges its operators by."""

    nodes: tuple[NodeProto, ...]
    """In order of execution; without Q/DQ and constants."""
    pixels: tuple[str, ...]
    """The model's own inputs."""
    logits: tuple[str, ...]
    """The model's own outputs, as the operators that make them call them."""
    sources: Mapping[str, str]
    """Any activation -> what it is called by the operator that makes it, Q/DQ looked through."""
    steps: Mapping[str, Step]
    """Operator's output -> how it is quantised; absent where somebody needs it as it is."""
    arrived: frozenset[str]
    """Activations that come out of a DequantizeLinear."""
    values: Mapping[str, np.ndarray]
    """Constants."""
    kinds: Mapping[str, str]
    """Activation -> its type in ONNX's words: `FLOAT`, `FLOAT16`, `UINT8`, `INT64` ..."""
    ranks: Mapping[str, int]
    makers: Mapping[str, NodeProto]
    """Operator's output -> the operator."""
    sizes: Mapping[str, int]
    """Operator's output -> bytes as it is handed on: a byte a value where it is quantised."""

    def data(self, node: NodeProto) -> list[str]:
        """The inputs of `node` that are no constants."""
        return [name for name in node.input if name in self.sources]

    def users(self, name: str) -> list[NodeProto]:
        """The operators that take what `name` is, quantised or not."""
        return [
            node for node in self.nodes if name in {self.sources.get(given) for given in node.input}
        ]


def read(path: Path) -> Graph:
    """Read an `.onnx` file.

    Raises:
        BundleError: it cannot be read, or is no ONNX model.
    """
    try:
        model = onnx.load_model_from_string(path.read_bytes())
        model = onnx.shape_inference.infer_shapes(model)
    except OSError as error:
        raise BundleError(f"cannot read the model {path}: {error.strerror}") from error
    except Exception as error:  # protobuf's and onnx's own classes share no other base
        raise BundleError(f"{path} is not an ONNX model: {error}") from error
    values = constants(model)
    sources, arrived = _sources(model, values)
    operators = tuple(
        node
        for node in model.graph.node
        if node.op_type not in QUANTISERS and node.op_type != "Constant"
    )
    steps = _steps(model, sources, values)
    shapes = {v.name: v.type.tensor_type for v in _described(model)}
    kinds = {name: TensorProto.DataType.Name(t.elem_type) for name, t in shapes.items()}
    sides = {name: [d.dim_value or 1 for d in t.shape.dim] for name, t in shapes.items()}
    widths = {name: helper.tensor_dtype_to_np_dtype(t.elem_type).itemsize
              for name, t in shapes.items()}  # fmt: skip
    return Graph(
        nodes=operators,
        pixels=tuple(value.name for value in model.graph.input if value.name not in values),
        logits=tuple(sources[value.name] for value in model.graph.output),
        sources=sources,
        steps=steps,
        arrived=arrived,
        values=values,
        kinds=kinds,
        ranks={name: len(found) for name, found in sides.items()},
        makers={name: node for node in operators for name in node.output},
        sizes={
            name: prod(found) * (1 if name in steps else widths[name])
            for name, found in sides.items()
        },
    )


def _described(model: ModelProto) -> Iterable[onnx.ValueInfoProto]:
    return (*model.graph.input, *model.graph.value_info, *model.graph.output)


def _sources(
    model: ModelProto, values: Mapping[str, np.ndarray]
) -> tuple[dict[str, str], frozenset[str]]:
    """Which operator's output each activation is, and which of them a DequantizeLinear gave."""
    sources = {value.name: value.name for value in model.graph.input if value.name not in values}
    arrived = set()
    for node in model.graph.node:
        if node.op_type not in QUANTISERS:
            sources.update({name: name for name in node.output if node.op_type != "Constant"})
        elif node.input[0] in sources:  # else it is a weight
            sources[node.output[0]] = sources[node.input[0]]
            if node.op_type == "DequantizeLinear":
                arrived.add(node.output[0])
    return sources, frozenset(arrived)


def _steps(
    model: ModelProto, sources: Mapping[str, str], values: Mapping[str, np.ndarray]
) -> dict[str, Step]:
    found: dict[str, Step] = {}
    direct = {value.name for value in model.graph.output}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in sources:
            found[sources[node.input[0]]] = _step(node, values)
        elif node.op_type not in QUANTISERS:
            direct |= {name for name in node.input if sources.get(name) == name}
    return {name: step for name, step in found.items() if name not in direct}


def _step(node: NodeProto, values: Mapping[str, np.ndarray]) -> Step:
    zero_point = values.get(node.input[2], np.zeros((), np.uint8))
    return Step(float(values[node.input[1]]), int(zero_point), zero_point.dtype.name)
