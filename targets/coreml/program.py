"""An `.mlpackage` -> a list of steps that can be executed: constants made, names resolved.

coremltools reads the file (`milproto`) and expands what is compressed; nothing of it is kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgekit.errors import BundleError, SpecError
from edgekit.spec import TensorSpec
from targets.coreml import package
from targets.coreml.description import describe
from targets.coreml.mil import Operator, operators


@dataclass(frozen=True, slots=True)
class Name:
    """A value that another step makes."""

    name: str


@dataclass(frozen=True, slots=True)
class Step:
    """One operator of the program."""

    kind: str
    """MIL's name for it."""
    layer: str
    """For people: the operator, and the weight that it reads or else its result."""
    run: Operator
    inputs: dict[str, Any]
    """Constants, `Name`s, and tuples of both."""
    outputs: tuple[str, ...]
    halves: tuple[bool, ...]
    """Which outputs are float16."""


@dataclass(frozen=True, slots=True)
class Program:
    """An mlprogram of one image input."""

    input: TensorSpec
    """As sessions present it: uint8, (1, H, W, 3)."""
    outputs: tuple[TensorSpec, ...]
    """The tensors; a classifier's label and probabilities are not among them."""
    steps: tuple[Step, ...]

    @property
    def half(self) -> bool:
        """Whether anything is computed in float16."""
        return any(any(step.halves) for step in self.steps)


def read(model: Path) -> Program:
    """Read a package.

    Raises:
        BundleError: it cannot be read, or is no mlprogram.
        SpecError: an operator is not known, no image input, or a shape is free.
        MissingPackage: coremltools is not installed.
    """
    message, image, outputs = describe(model)
    from coremltools.converters.mil.frontend.milproto import load

    known = operators()
    (function,) = message.mlProgram.functions.values()
    for operation in function.block_specializations[function.opset].operations:
        _check(operation.type, known)
    _, weights = package.read(model)
    try:
        loaded = load.load(
            message,
            specification_version=message.specificationVersion,
            file_weights_dir=str(weights),
        )
    except Exception as error:  # the reader raises many kinds
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BundleError(f"Core ML refuses the model {model}: {line}") from error
    (main,) = loaded.functions.values()
    steps = [
        _step(operation, known)
        for operation in main.operations
        if operation.op_type != "const" and not operation.op_type.startswith("constexpr_")
    ]
    return Program(image, outputs, tuple(steps))


def _check(kind: str, known: dict[str, Operator]) -> None:
    if kind not in known and kind != "const" and not kind.startswith("constexpr_"):
        raise SpecError(
            f"the interpreter does not know Core ML's operator '{kind}': the model can be run on "
            "macOS alone; add it to targets/coreml/mil, or choose another backend"
        )


def _step(operation: Any, known: dict[str, Operator]) -> Step:
    given = {name: _value(var) for name, var in operation.inputs.items() if var is not None}
    weight = operation.inputs.get("weight")
    made = operation.outputs[0].name
    named = made if weight is None else weight.name.partition("_weight")[0]
    return Step(
        kind=operation.op_type,
        layer=f"{named} ({operation.op_type})",
        run=known[operation.op_type],
        inputs={name: value for name, value in given.items() if value is not None},
        outputs=tuple(var.name for var in operation.outputs),
        halves=tuple(_is_half(var) for var in operation.outputs),
    )


def _is_half(var: Any) -> bool:
    return getattr(getattr(var, "dtype", None), "__name__", "") == "fp16"


def _value(var: Any) -> Any:
    """A constant of whole numbers, text or one value as Python's own; a float tensor as torch's."""
    if isinstance(var, (list, tuple)):
        return tuple(_value(each) for each in var)
    made: Callable[[], Any] | None = getattr(var.op, "materialized_val_inference", None)
    held = made() if made and var.op.op_type.startswith("constexpr_") else var.val
    if held is None:
        # A list's value is held by its elements' names; an optional input may be a null constant.
        return Name(var.name) if var.op is None or var.op.op_type != "const" else None
    if isinstance(held, np.ndarray) and held.ndim and np.issubdtype(held.dtype, np.floating):
        return torch.from_numpy(held.astype(np.float32))
    return held.tolist() if isinstance(held, (np.ndarray, np.generic)) else held
