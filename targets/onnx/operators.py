"""Count the operators of an ONNX file, without the package `onnx`.

ONNX is a protobuf message; only the fields on the way to an operator's name are looked at
(https://protobuf.dev/programming-guides/encoding, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3):

    ModelProto.graph = 7 -> GraphProto.node = 1 -> NodeProto.op_type = 4, .domain = 7
"""

from collections import Counter
from pathlib import Path

from edgekit.errors import BundleError
from targets.protobuf import fields


def operators(model: Path) -> Counter[str]:
    """How often each operator stands in the main graph; `domain.name` outside of ONNX's own.

    Raises:
        BundleError: the file cannot be read, or is no ONNX model.
    """
    counts: Counter[str] = Counter()
    try:
        content = memoryview(model.read_bytes())
        for graph in fields(content, 7):
            for node in fields(graph, 1):
                names = [bytes(name).decode() for name in fields(node, 4)]
                domains = [bytes(name).decode() for name in fields(node, 7)]
                counts[".".join(filter(None, domains + names))] += 1
    except OSError as error:
        raise BundleError(f"cannot read the model {model}: {error.strerror}") from error
    except (IndexError, ValueError) as error:
        raise BundleError(f"{model} is not an ONNX model: {error}") from error
    return counts
