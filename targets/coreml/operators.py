"""Count the operators of an `.mlpackage`, without coremltools.

The model is a protobuf message; only the fields on the way to an operator's name are looked at
(https://apple.github.io/coremltools/mlmodel/Format/Model.html and MIL.html there):

    Model.mlProgram = 502 -> Program.functions = 2, a map -> value = 2, Function
    -> block_specializations = 3, a map -> value = 2, Block -> operations = 3 -> type = 1
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from edgekit.errors import BundleError
from targets.coreml import package
from targets.protobuf import fields

_OPERATORS = (502, 2, 2, 3, 2, 3)


def operators(model: Path) -> Counter[str]:
    """How often each operator stands in the program; constants are none.

    Raises:
        BundleError: the package cannot be read, or is no mlprogram.
    """
    content, _ = package.read(model)
    counts: Counter[str] = Counter()
    try:
        for operation in _inside(memoryview(content), _OPERATORS):
            for name in fields(operation, 1):
                counts[bytes(name).decode()] += 1
    except (IndexError, ValueError) as error:
        raise BundleError(f"{model} is not a Core ML model: {error}") from error
    del counts["const"]
    if not counts:
        raise BundleError(f"{model} is not a Core ML model: it holds no mlprogram")
    return counts


def _inside(message: memoryview, path: tuple[int, ...]) -> Iterator[memoryview]:
    """The messages at the end of a path of field numbers."""
    if not path:
        yield message
        return
    for inner in fields(message, path[0]):
        yield from _inside(inner, path[1:])
