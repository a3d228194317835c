from collections.abc import Sequence

import pytest

from targets.partitions import HOST, Node, crossing, partitions, placement


def chain(kinds: str) -> list[Node]:
    """A node a letter, each fed by the one before it; capitals are refused."""
    return [
        Node(f"{i}", kind, (f"t{i}",), (f"t{i + 1}",), "refused" if kind.isupper() else "")
        for i, kind in enumerate(kinds)
    ]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ("aaa", [0, 0, 0]),
        ("Aaa", [HOST, 0, 0]),
        ("aAa", [0, HOST, 1]),
        ("aaAAaA", [0, 0, HOST, HOST, 1, HOST]),
        ("AA", [HOST, HOST]),
        ("", []),
    ],
)
def test_a_chain_is_cut_where_the_side_changes(kinds: str, expected: list[int]) -> None:
    assert partitions(chain(kinds)) == expected


def node(name: str, inputs: Sequence[str], reason: str = "") -> Node:
    return Node(name, "op", tuple(inputs), (name,), reason)


DIAMOND = [
    node("a", ["image"]),
    node("b", ["a"], "refused"),
    node("c", ["a"]),
    node("d", ["b", "c"]),
]


def test_what_waits_for_nothing_runs_with_what_came_before() -> None:
    assert partitions(DIAMOND) == [0, HOST, 0, 1]


def test_what_crosses_is_counted_once_for_each_place_it_goes_to() -> None:
    sizes = {"a": 1, "b": 10, "c": 100, "d": 1000}
    where = partitions(DIAMOND)
    assert crossing(DIAMOND, where, sizes) == 1 + 10 + 100  # a to b, b to d, c to d
    twice = [*DIAMOND, node("e", ["a"], "refused")]
    assert crossing(twice, partitions(twice), sizes) == 111, "b and e are both on the host"


def test_a_placement_says_all_of_it() -> None:
    made = placement("XNNPACK", "rules", DIAMOND, dict.fromkeys("abcd", 4))
    assert (made.partitions, made.crossing_bytes) == (2, 12)
    assert [op.name for op in made.fallen] == ["b"]
    assert made.operators[1].reason == "refused"


def test_the_border_is_no_fallback() -> None:
    border = Node("cast", "CAST", ("image",), ("x",), "refused", border=True)
    made = placement("XNNPACK", "rules", [border, node("y", ["x"])], {"x": 8, "y": 8})
    assert made.fallen == ()
    assert (made.partitions, made.crossing_bytes) == (1, 8)
