"""Count the operators of an ONNX file, without the package `onnx`.

ONNX is a protobuf message; only the fields on the way to an operator's name are looked at
(https://protobuf.dev/programming-guides/encoding, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3):

    ModelProto.graph = 7 -> GraphProto.node = 1 -> NodeProto.op_type = 4, .domain = 7
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from edgekit.errors import BundleError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def operators(model: Path) -> Counter[str]:
    """How often each operator stands in the main graph; `domain.name` outside of ONNX's own.

    Raises:
        BundleError: the file cannot be read, or is no ONNX model.
    """
    counts: Counter[str] = Counter()
    try:
        content = memoryview(model.read_bytes())
        for graph in _fields(content, 7):
            for node in _fields(graph, 1):
                names = [bytes(name).decode() for name in _fields(node, 4)]
                domains = [bytes(name).decode() for name in _fields(node, 7)]
                counts[".".join(filter(None, domains + names))] += 1
    except OSError as error:
        raise BundleError(f"cannot read the model {model}: {error.strerror}") from error
    except (IndexError, ValueError) as error:
        raise BundleError(f"{model} is not an ONNX model: {error}") from error
    return counts


def _fields(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """The length-delimited fields with the number `wanted`, in their order."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind, size = tag & 7, 0
        if kind == _VARINT:
            _, position = _varint(message, position)
        elif kind == _BYTES:
            size, position = _varint(message, position)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind} at byte {position}")
        if position + size > len(message):
            raise ValueError("it ends within a field")
        if kind == _BYTES and tag >> 3 == wanted:
            yield message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A base-128 number, least significant group first, and the position after it."""
    value = shift = 0
    while message[position] & 0x80:
        value |= (message[position] & 0x7F) << shift
        position, shift = position + 1, shift + 7
    return value | message[position] << shift, position + 1
