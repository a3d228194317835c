"""Integers of 4 bits, two in a byte: the same order in ONNX and in TFLite."""

import numpy as np


def pack(values: np.ndarray) -> np.ndarray:
    """int8, -8 to 7, any shape -> uint8, one axis: the first of two in the low half."""
    flat = values.reshape(-1).view(np.uint8) & 15
    flat = np.append(flat, np.zeros(flat.size % 2, np.uint8))
    packed: np.ndarray = flat[::2] | (flat[1::2] << 4)
    return packed
