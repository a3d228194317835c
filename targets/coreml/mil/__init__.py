"""MIL's operators in PyTorch, float32: what each means is written in coremltools' reference.

https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html

An operator is a function of its inputs by name. Of these, tensors are torch's; constants of whole
numbers, text and single values are Python's own. Integers of 8 bits travel as float tensors: they
are exact there, and what reads them is arithmetic in float.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torch import Tensor

Inputs: TypeAlias = Mapping[str, Any]
Result: TypeAlias = Tensor | tuple[Any, ...]
Operator: TypeAlias = Callable[[Inputs], Result]


def operators() -> dict[str, Operator]:
    """Every operator that is known, by MIL's name."""
    from targets.coreml.mil import layers, numbers, pointwise, reductions, resizing, shapes

    rooms = (layers, numbers, pointwise, reductions, resizing, shapes)
    return {name: operator for room in rooms for name, operator in room.OPERATORS.items()}
