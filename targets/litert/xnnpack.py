"""The rules by which LiteRT's XNNPACK delegate takes or refuses an operator."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


FLOAT = _names(
    """ABS ADD AVERAGE_POOL_2D BATCH_MATMUL CEIL CONCATENATION CONV_2D COS DEPTHWISE_CONV_2D
    DEPTH_TO_SPACE DIV ELU EXP FLOOR FULLY_CONNECTED GELU HARD_SWISH LEAKY_RELU LOG LOGISTIC MAXIMUM
    MAX_POOL_2D MEAN MINIMUM MUL NEG PAD PRELU REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1 RESHAPE
    RESIZE_BILINEAR ROUND RSQRT SIN SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQRT SQUARE
    SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV"""
)
"""Taken where all activations are float32."""
INT8 = _names(
    """ADD CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE ELU FULLY_CONNECTED LEAKY_RELU
    LOGISTIC MAX_POOL_2D MEAN MUL PAD REDUCE_MAX REDUCE_MIN RESHAPE RESIZE_BILINEAR SLICE
    SPACE_TO_DEPTH SPLIT STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV"""
)
"""Taken where all activations are int8."""
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
FUSED = (0, 1, 2, 3)
"""Activations that are fused: none, ReLU, ReLU of -1 to 1, ReLU6."""
MOST_INPUTS = 5
MOST_PARTS = 4
MOST_AXES = 6


@dataclass(frozen=True, slots=True)
class Tensor:
    """What the rules look at in a tensor."""

    shape: tuple[int, ...]
    dtype: str
    """TFLite's name: `FLOAT32`, `INT8` ..."""
    data: bytes
    """Of a constant; empty for an activation."""
    quantization: tuple[tuple[float, int], ...]
    """Scale and zero point, one pair or one a channel."""
    bytes: int


@dataclass(frozen=True, slots=True)
class Operator:
    """What the rules look at in an operator."""

    kind: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    options: Any
    """The schema's own `...OptionsT`, or None."""


def refusal(operator: Operator) -> str:
    """Why XNNPACK does not take `operator`; empty if it does."""
    kind = operator.kind
    if kind in ("QUANTIZE", "DEQUANTIZE"):
        return _conversion(operator)
    if kind not in FLOAT:
        return f"XNNPACK has no {kind}"
    activations = (*(t for t in operator.inputs if not t.data), *operator.outputs)
    dtypes = sorted({t.dtype for t in activations if t.dtype != "INT32"}) or ["INT32"]
    if dtypes == ["INT8"] and kind not in INT8:
        return f"XNNPACK has {kind} in float only, not in int8"
    if dtypes not in (["FLOAT32"], ["INT8"]):
        return f"XNNPACK has no {kind} of {' and '.join(d.lower() for d in dtypes)}"
    if getattr(operator.options, "fusedActivationFunction", 0) not in FUSED:
        return "an activation is fused into it that XNNPACK does not fuse"
    if kind in WEIGHTED and not all(t.data for t in operator.inputs[1:2]):
        return "its weights are not constant"
    rule = _RULES.get(kind)
    return rule(operator) if rule else ""


def _conversion(operator: Operator) -> str:
    source, result = operator.inputs[0], operator.outputs[0]
    pair = (source.dtype, result.dtype)
    if source.data and pair == ("FLOAT16", "FLOAT32"):
        return ""  # weights stored as fp16: converted once, while the model is loaded
    if pair in (("FLOAT32", "INT8"), ("INT8", "INT8"), ("INT8", "FLOAT32"), ("UINT8", "FLOAT32")):
        return ""
    return f"XNNPACK does not convert {source.dtype.lower()} to {result.dtype.lower()}"


def _pooling(operator: Operator) -> str:
    given = operator.options
    window = (given.filterHeight, given.filterWidth)
    strides = (given.strideH, given.strideW)
    if any(stride > side for stride, side in zip(strides, window, strict=True)):
        return "its stride is larger than its window"
    return ""


def _concatenation(operator: Operator) -> str:
    count = len(operator.inputs)
    if not 2 <= count <= MOST_INPUTS:
        return f"it joins {count} tensors; XNNPACK joins 2 to {MOST_INPUTS}"
    return ""


def _split(operator: Operator) -> str:
    count = len(operator.outputs)
    return f"it has {count} parts; XNNPACK makes up to {MOST_PARTS}" if count > MOST_PARTS else ""


def _strided_slice(operator: Operator) -> str:
    strides = np.frombuffer(operator.inputs[3].data, np.int32)
    if np.any(strides != 1):
        return f"its step is {strides.max()}; XNNPACK slices with step 1 only"
    return ""


def _transpose(operator: Operator) -> str:
    axes = len(operator.outputs[0].shape)
    return f"it has {axes} axes; XNNPACK takes up to {MOST_AXES}" if axes > MOST_AXES else ""


def _reshape(operator: Operator) -> str:
    if operator.inputs[0].quantization != operator.outputs[0].quantization:
        return "its input and output have different scales"
    return ""


_RULES: dict[str, Callable[[Operator], str]] = {
    "AVERAGE_POOL_2D": _pooling,
    "CONCATENATION": _concatenation,
    "MAX_POOL_2D": _pooling,
    "RESHAPE": _reshape,
    "SPLIT": _split,
    "STRIDED_SLICE": _strided_slice,
    "TRANSPOSE": _transpose,
}
