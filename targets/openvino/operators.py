"""Count the operators of the file: it is an ONNX file."""

from targets.onnx.operators import operators

__all__ = ["operators"]
