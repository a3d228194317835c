"""What the delegates of a `.pte` file run: decided when it was built, and read from it.

ExecuTorch cuts a program into partitions at build time. The file says which operators went where,
not why: the partitioner's own reasons stand in the bundle's notes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

from edgekit.errors import BundleError
from edgekit.spec import PlacedOperator, Placement, SessionOptions
from targets.executorch.operators import DELEGATE_CALL, KERNEL_CALL, inside
from targets.flatbuffer import Table
from targets.partitions import HOST, Node, crossing

BASIS = "what the build put into the file: the partitions that the runtime will run"
NAMES = {"XnnpackBackend": "XNNPACK", "CoreMLBackend": "Core ML"}
CAST = "_to_dim_order_copy"
"""The operator that makes floats of the camera's bytes, and of half-precision logits."""
WHY = "the delegate's partitioner left it to the portable kernels; the notes say why"
TENSOR = 5
"""The kind of an `EValue` that is a tensor, in `schema/program.fbs`."""
BYTES = {0: 1, 1: 1, 2: 2, 3: 4, 4: 8, 5: 2, 6: 4, 7: 8, 11: 1}
"""Of a value, by ScalarType of `schema/scalar_type.fbs`."""


@dataclass(frozen=True, slots=True)
class Call:
    """One instruction of the program."""

    kinds: tuple[str, ...]
    """The operator, or those that the delegate runs."""
    delegate: str
    """The delegate's name; empty for a kernel of ExecuTorch's own."""
    values: tuple[int, ...]
    """Numbers of the values that it takes and makes."""


def place(model: Path, options: SessionOptions) -> Placement:
    """Read the program's calls.

    Raises:
        BundleError: the file cannot be read, or is no ExecuTorch program.
    """
    try:
        content = memoryview(model.read_bytes())
        if bytes(content[4:6]) != b"ET":
            raise ValueError("it does not begin as one")
        program = Table.root(content)
        plan = next(program.tables(1))
        calls = list(_calls(content, program, plan))
        sizes = dict(_sizes(plan))
        given, ends = set(plan.numbers(3)), {*plan.numbers(3), *plan.numbers(4)}
    except OSError as error:
        raise BundleError(f"cannot read the model {model}: {error.strerror}") from error
    except (StopIteration, IndexError, ValueError) as error:
        raise BundleError(f"{model} is not an ExecuTorch model: {error}") from error
    nodes = _nodes(calls, sizes, given)
    numbers = iter(range(len(calls)))
    where = [next(numbers) if call.delegate else HOST for call in calls]
    return Placement(
        accelerator=next(
            (NAMES.get(c.delegate, c.delegate) for c in calls if c.delegate), "XNNPACK"
        ),
        basis=BASIS,
        operators=tuple(_operators(calls, where, ends)),
        partitions=sum(bool(call.delegate) for call in calls),
        crossing_bytes=crossing(nodes, where, {str(n): size for n, size in sizes.items()}),
    )


def _calls(content: memoryview, program: Table, plan: Table) -> Iterator[Call]:
    names = [f"{o.text(0)}.{o.text(1)}".rstrip(".") for o in plan.tables(6)]
    delegates = list(plan.tables(7))
    for chain in plan.tables(5):
        for instruction in chain.tables(2):
            kind = instruction.number(0, 1)
            if kind not in (KERNEL_CALL, DELEGATE_CALL):
                continue
            call = instruction.table(1)
            index, values = call.number(0), tuple(call.numbers(1))
            if kind == KERNEL_CALL:
                yield Call((names[index],), "", values)
            else:
                delegate = delegates[index]
                kinds = tuple(inside(content, program, delegate))
                yield Call(kinds, delegate.text(0), values)


def _sizes(plan: Table) -> Iterator[tuple[int, int]]:
    """Value -> bytes, of the tensors that are computed."""
    for number, value in enumerate(plan.tables(2)):
        if value.number(0, 1) == TENSOR:
            tensor = value.table(1)
            constant = tensor.number(5)
            if not constant:
                yield number, prod(tensor.numbers(2)) * BYTES.get(tensor.number(0, 1), 4)


def _nodes(calls: list[Call], sizes: dict[int, int], given: set[int]) -> list[Node]:
    """A value is made by the first call that names it, unless the caller gives it."""
    known = set(given)
    nodes = []
    for n, call in enumerate(calls):
        tensors = [value for value in call.values if value in sizes]
        made = tuple(str(value) for value in tensors if value not in known)
        taken = tuple(str(value) for value in tensors if value in known)
        known.update(tensors)
        nodes.append(Node(str(n), call.delegate, taken, made))
    return nodes


def _operators(calls: list[Call], where: list[int], ends: set[int]) -> Iterator[PlacedOperator]:
    for n, (call, number) in enumerate(zip(calls, where, strict=True)):
        border = CAST in "".join(call.kinds[:1]) and bool(ends & set(call.values))
        for m, kind in enumerate(call.kinds):
            name = f"call {n}" if number == HOST else f"call {n}, operator {m}"
            plain = kind.removeprefix("XNNPACK.")
            yield PlacedOperator(name, plain, number, WHY if number == HOST else "", border)
