"""Operators that an accelerator takes or refuses -> the partitions that it runs.

    conv  relu  STRIDED_SLICE  conv  softmax        the graph, what is refused in capitals
    [   0    ]      host       [     1     ]        two partitions; two tensors cross

A runtime goes through the operators in their order, takes all that the accelerator can run before
it must wait for the host, then all that the host can run before it must wait for the accelerator,
and so on. LiteRT and ONNX Runtime both cut a graph in this way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekit.spec import PlacedOperator, Placement

HOST = -1
"""The number of what is in no partition."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator of a file, judged."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    """Names of tensors; constants may be among them."""
    outputs: tuple[str, ...]
    reason: str = ""
    """Why the accelerator refuses it; empty if it takes it."""
    border: bool = False
    """See `edgekit.spec.PlacedOperator`."""


def placement(
    accelerator: str, basis: str, nodes: Sequence[Node], sizes: Mapping[str, int]
) -> Placement:
    """Cut a graph into partitions, and count what crosses between them.

    Args:
        accelerator: for people.
        basis: for people; see `edgekit.spec.Placement`.
        nodes: in an order in which they can run.
        sizes: bytes of each tensor that a node makes.
    """
    where = partitions(nodes)
    placed = tuple(
        PlacedOperator(node.name, node.kind, number, node.reason, node.border)
        for node, number in zip(nodes, where, strict=True)
    )
    count = len({number for number in where if number != HOST})
    return Placement(accelerator, basis, placed, count, crossing(nodes, where, sizes))


def partitions(nodes: Sequence[Node]) -> list[int]:
    """Of each node, the number of its partition, from 0 in order of execution, or `HOST`.

    Turns are taken: the side that the first node belongs to has turns 0, 2 ..., the other one
    1, 3 ...; a node runs in the first turn of its side in which all that it needs is there.
    """
    turns: list[int] = []
    made_in: dict[str, int] = {}
    for node in nodes:
        side = int(bool(node.reason) != bool(nodes[0].reason))
        turn = max((made_in[name] for name in node.inputs if name in made_in), default=side)
        turns.append(turn + (turn - side) % 2)
        made_in.update(dict.fromkeys(node.outputs, turns[-1]))
    taken = sorted({turn for turn, node in zip(turns, nodes, strict=True) if not node.reason})
    return [
        HOST if node.reason else taken.index(turn) for turn, node in zip(turns, nodes, strict=True)
    ]


def crossing(nodes: Sequence[Node], where: Sequence[int], sizes: Mapping[str, int]) -> int:
    """Bytes of what one partition, or the host, makes and another one needs.

    A tensor that goes to two others counts twice.
    """
    made_in = {
        tensor: place for node, place in zip(nodes, where, strict=True) for tensor in node.outputs
    }
    moves = {
        (tensor, place)
        for node, place in zip(nodes, where, strict=True)
        for tensor in node.inputs
        if made_in.get(tensor, place) != place
    }
    return sum(sizes[tensor] for tensor, _ in moves)
