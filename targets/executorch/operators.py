"""Count the operators of a `.pte` file, without importing ExecuTorch.

What a delegate runs is in a blob of its own. XNNPACK's is read, by the schema that lies beside the
runtime; another delegate counts as one operator. The layouts are those of `schema/program.fbs`,
`exir/_serialize/_program.py` and `backends/xnnpack/serialization` of ExecuTorch 1.5.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from edgekit.errors import BundleError
from targets.flatbuffer import Table

SCHEMA = "backends/xnnpack/serialization/schema.fbs"
KERNEL_CALL, DELEGATE_CALL = 1, 2

Item = TypeVar("Item")


def operators(model: Path) -> Counter[str]:
    """How often each operator runs: `aten::add.out`, or `XNNPACK.Conv2d` inside of the delegate.

    Raises:
        BundleError: the file cannot be read, or is no ExecuTorch program.
    """
    try:
        content = memoryview(model.read_bytes())
    except OSError as error:
        raise BundleError(f"cannot read the model {model}: {error.strerror}") from error
    try:
        return count(content)
    except ValueError as error:
        raise BundleError(f"{model} is not an ExecuTorch model: {error}") from error


def count(content: memoryview) -> Counter[str]:
    """The same, of a file's bytes.

    Raises:
        ValueError: they are no ExecuTorch program.
    """
    if bytes(content[4:6]) != b"ET":
        raise ValueError("it does not begin as one")
    program = Table.root(content)
    found: Counter[str] = Counter()
    for plan in program.tables(1):
        names = [f"{o.text(0)}.{o.text(1)}".rstrip(".") for o in plan.tables(6)]
        delegates = list(plan.tables(7))
        for chain in plan.tables(5):
            for instruction in chain.tables(2):
                kind = instruction.number(0, 1)
                if kind == KERNEL_CALL:
                    found[_of(names, instruction.table(1).number(0))] += 1
                elif kind == DELEGATE_CALL:
                    called = _of(delegates, instruction.table(1).number(0))
                    found.update(inside(content, program, called))
    return found


def inside(content: memoryview, program: Table, delegate: Table) -> Iterator[str]:
    """Names of what a delegate's blob holds."""
    name = delegate.text(0)
    blob = _blob(content, program, delegate.table(1))
    if name != "XnnpackBackend" or bytes(blob[4:8]) != b"XH00":
        yield name
        return
    graph = Table.root(blob[int.from_bytes(blob[10:14], "little") :])
    known = _xnnpack()
    for node in graph.tables(1):
        kind = node.number(0, 1)
        yield f"XNNPACK.{known[kind - 1] if 0 < kind <= len(known) else f'operator {kind}'}"


def _blob(content: memoryview, program: Table, where: Table) -> memoryview:
    index = where.number(1)
    if where.number(0, 1):  # in a segment, which lies after the program
        segment = _of(list(program.tables(4)), index)
        start = segment.number(0, 8) + int.from_bytes(content[24:32], "little")
        return content[start : start + segment.number(1, 8)]
    return _of(list(program.tables(3)), index).bytes(0)


def _of(items: Sequence[Item], index: int) -> Item:
    if index >= len(items):
        raise ValueError(f"number {index} of {len(items)} is named")
    return items[index]


@cache
def _xnnpack() -> tuple[str, ...]:
    """XNNPACK's operators in the order of their numbers, from 1; none without the runtime."""
    spec = find_spec("executorch")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / SCHEMA).is_file():
            body = re.search(r"union XNodeUnion \{(.*?)\}", path.read_text(), re.DOTALL)
            return tuple(re.findall(r"\bXNN(\w+)", body[1])) if body else ()
    return ()
