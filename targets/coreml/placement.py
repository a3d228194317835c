"""What the Neural Engine will probably take of a Core ML program: a forecast by published rules.

Apple documents little of it: it computes in float16 (coremltools' guide, "Typed Execution"), on
tensors of at most five axes, and int8 activations are for the A17 Pro, the M4 and later
("Optimization Overview"). Which operators it lacks is known from reports
(https://github.com/hollance/neural-engine, "Which Core ML layers are not supported by the ANE?").
Core ML decides on the device; Xcode's performance report says how.
"""

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

from edgekit.spec import Placement, SessionOptions
from targets.coreml.description import describe
from targets.partitions import Node, placement

FORECAST = "published rules and reports, a forecast: Core ML decides on the device"
UNITS = {
    "": ("the Neural Engine", f"{FORECAST}; what falls back runs on the GPU or the CPU"),
    "all": ("the Neural Engine", f"{FORECAST}; what falls back runs on the GPU or the CPU"),
    "cpu_and_ane": ("the Neural Engine", f"{FORECAST}; what falls back runs on the CPU"),
    "cpu_and_gpu": ("the GPU", f"{FORECAST}; what falls back runs on the CPU"),
    "cpu_only": ("the CPU", "Core ML's CPU kernels hold every operator of an mlprogram"),
}
"""`compute_units` -> what is asked about, and how far the answer goes."""

NO_ENGINE = frozenset(
    ("argsort", "band_part", "cond", "cumsum", "fill_like", "gather", "gather_along_axis",
     "gather_nd", "gru", "lstm", "non_maximum_suppression", "non_zero", "one_hot", "resample",
     "reverse_sequence", "rnn", "scatter", "scatter_along_axis", "scatter_nd", "topk", "while_loop")
)  # fmt: skip
"""Reported not to run on the Neural Engine: recurrence, indexing, sorting, control flow."""
NO_GPU = frozenset(("cond", "gru", "lstm", "non_maximum_suppression", "rnn", "while_loop"))
MOST_AXES = 5
BORDER = ("cast", "classify")
HALF, FLOAT = 10, 11
"""`DataType` of MIL.proto."""
BYTES = {1: 1, HALF: 2, FLOAT: 4, 12: 8, 21: 1, 22: 2, 23: 4, 24: 8, 31: 1, 32: 2, 33: 4}


def place(model: Path, options: SessionOptions) -> Placement:
    """Judge every operator of the program.

    Raises:
        BundleError: the package cannot be read, or is no mlprogram.
        SpecError: it has no image input, or a shape is free.
        MissingPackage: coremltools is not installed.
    """
    message, _, _ = describe(model)
    (function,) = message.mlProgram.functions.values()
    every = list(function.block_specializations[function.opset].operations)
    operations = [each for each in every if not each.type.startswith("const")]
    constants = {each.outputs[0].name: _numbers(each) for each in every if each.type == "const"}
    accelerator, basis = UNITS[options.compute_units]
    ends = _ends(operations, {each.name for each in function.inputs})
    nodes = [
        Node(
            name=each.outputs[0].name,
            kind=each.type,
            inputs=tuple(_given(each)),
            outputs=tuple(made.name for made in each.outputs),
            reason=_refusal(accelerator, each, constants),
            border=each.type in BORDER and each.outputs[0].name in ends,
        )
        for each in operations
    ]
    sizes = {made.name: _bytes(made) for each in operations for made in each.outputs}
    return placement(accelerator, basis, nodes, sizes)


def _refusal(accelerator: str, operation: Any, constants: Mapping[str, list[int]]) -> str:
    if accelerator == "the CPU":
        return ""
    if operation.type == "classify":
        return "a class's name is looked up by the CPU"
    if accelerator == "the GPU":
        return f"the GPU has no {operation.type}" if operation.type in NO_GPU else ""
    return _engine(operation, constants)


def _engine(operation: Any, constants: Mapping[str, list[int]]) -> str:
    kind = operation.type
    if kind in NO_ENGINE:
        return f"the Neural Engine is reported to have no {kind}"
    for made in operation.outputs:
        tensor = made.type.tensorType
        if tensor.dataType == FLOAT:
            return "it computes in float32; the Neural Engine computes in float16"
        if tensor.rank > MOST_AXES:
            return f"a tensor of {tensor.rank} axes; the Neural Engine takes up to {MOST_AXES}"
    dilations = [binding.name for binding in operation.inputs["dilations"].arguments]
    if kind == "conv" and any(step > 1 for name in dilations for step in constants.get(name, [])):
        return "dilated convolutions are reported not to run on the Neural Engine"
    return ""


def _numbers(constant: Any) -> list[int]:
    """A constant's whole numbers; none where it is something else, or lies in the weights' file."""
    return list(constant.attributes["val"].immediateValue.tensor.ints.values)


def _ends(operations: list[Any], pixels: set[str]) -> set[str]:
    """Results of the operators that take the image itself, and of those that nobody takes."""
    taken = {name for each in operations for name in _given(each)}
    last = {name for each in operations if each.type == "classify" for name in _given(each)}
    return last | {
        made.name
        for each in operations
        for made in each.outputs
        if pixels & set(_given(each)) or made.name not in taken
    }


def _given(operation: Any) -> Iterator[str]:
    for argument in operation.inputs.values():
        yield from (binding.name for binding in argument.arguments if binding.name)


def _bytes(made: Any) -> int:
    tensor = made.type.tensorType
    sides: list[int] = [side.constant.size for side in tensor.dimensions]
    return prod(sides) * BYTES.get(tensor.dataType, 4)
