"""Types of numbers, integers of 8 bits and what they stand for; labels at the end."""

from typing import Any

import torch
from torch import Tensor

from targets.coreml.mil import Inputs, Operator

RANGES = {"int8": (-128, 127), "uint8": (0, 255)}
WHOLE = ("int8", "uint8", "int16", "uint16", "int32", "int64")


def cast(given: Inputs) -> Tensor:
    """To another type: whole numbers are cut towards zero. fp16 is rounded by the interpreter."""
    x = torch.as_tensor(given["x"])
    kind = given["dtype"]
    if kind == "bool":
        return x.bool()
    if kind in RANGES:
        return x.float().trunc().clamp(*RANGES[kind])
    return x.float().trunc().to(torch.int64) if kind in WHOLE else x.float()


def quantize(given: Inputs) -> Tensor:
    """clip(round(x / scale) + zero_point), halves to the even neighbour."""
    x: Tensor = given["input"]
    scale, zero_point = _along(given, x)
    low, high = RANGES[given["output_dtype"]]
    found: Tensor = ((x / scale).round() + zero_point).clamp(low, high)
    return found


def dequantize(given: Inputs) -> Tensor:
    """(q - zero_point) * scale."""
    scale, zero_point = _along(given, given["input"])
    found: Tensor = (given["input"] - zero_point) * scale
    return found


def _along(given: Inputs, x: Tensor) -> tuple[Any, Any]:
    """Scale and zero point, one or one for each index of `axis`."""
    shape = [1] * x.dim()
    axis = given.get("axis")
    if axis is not None:
        shape[axis] = -1
    both = (given["scale"], given.get("zero_point"))
    values = [torch.as_tensor(0 if v is None else v, dtype=torch.float32) for v in both]
    return tuple(v.view(shape) if v.dim() else v for v in values)  # type: ignore[return-value]


def classify(given: Inputs) -> tuple[str, dict[str, float]]:
    """The most probable label, and each label's probability."""
    row = given["probabilities"].reshape(-1).tolist()
    pairs = dict(zip(given["classes"], row, strict=True))
    return max(pairs, key=lambda label: pairs[label]), pairs


OPERATORS: dict[str, Operator] = {
    "cast": cast,
    "quantize": quantize,
    "dequantize": dequantize,
    "classify": classify,
}
