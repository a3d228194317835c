"""What can be pruned: dials, each a set of channels that is thinned out by itself.

A *channel* here is all that one label stands for: the filter that makes it, in every layer that a
sum couples, what treats it by itself (depthwise, batch norm), and its column in every layer that
takes it. Its *role* says in which layers, and in which of their groups; channels of the same role
are interchangeable. Each role is a dial of its own, but where places count (a split, a shuffle, a
grouped convolution): there all roles that meet are one dial, and keep their proportions.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from torch import Tensor

from edgekit.learn.prune.channels.graph import Flow

FEW = 4
"""A dial of tied channels with fewer settings than this is given odder widths."""

Role = frozenset[tuple[tuple[str, str, int], int]]
"""((layer, `out` or `in`, group), how often), each."""


@dataclass(frozen=True, slots=True)
class Dial:
    """Channels that are thinned out together."""

    channels: tuple[int, ...]
    """Their labels' roots, in the network's order."""
    size: int
    """Its scale: at `size` all of them are left; at n, n / size of each layer's."""
    outs: Mapping[str, int]
    """Layer -> how many of what it makes or passes on are this dial's."""
    ins: Mapping[str, int]
    """Layer -> how many of what it takes are this dial's."""
    levels: tuple[int, ...]
    """What it may be set to, from `size` downwards."""
    numbers: Mapping[tuple[str, str], int]
    """(module, attribute) -> value, which goes with the widths."""

    def with_levels(self, levels: tuple[int, ...]) -> "Dial":
        return replace(self, levels=levels)


def roles(flow: Flow) -> dict[int, Role]:
    """The role of each channel, by its root; also of those that cannot be pruned."""
    found: dict[int, Counter[tuple[str, str, int]]] = defaultdict(Counter)
    for end, table in (("out", flow.outs), ("in", flow.ins)):
        for layer, labels in table.items():
            per = len(labels) // flow.groups.get(layer, 1)
            for place, root in enumerate(flow.roots(labels)):
                found[root][layer, end, place // per] += 1
    return {root: frozenset(counts.items()) for root, counts in found.items()}


def dials(flow: Flow, keep: Sequence[str], least: float, multiple: int) -> list[Dial]:
    """All dials of a network that turn, in its order.

    Args:
        flow: of the network.
        keep: layers that are not pruned: names, as in `features.0.*`.
        least: what stays of each layer, as a fraction.
        multiple: widths are multiples of this, where a layer is wider.
    """
    fixed = {flow.root(label) for label in flow.fixed}
    for layer, labels in flow.outs.items():
        if any(fnmatchcase(layer, pattern) for pattern in keep):
            fixed.update(flow.roots(labels))
    by_role: dict[Role, list[int]] = defaultdict(list)
    for root, role in sorted(roles(flow).items()):
        by_role[role].append(root)
    found = []
    for sets in _together(flow, by_role):
        members = sorted(root for role in sets for root in by_role[role])
        if not fixed.intersection(members):
            found.append(_dial(flow, members, len(sets) > 1, least, multiple))
    return [dial for dial in found if len(dial.levels) > 1]


def _together(flow: Flow, by_role: Mapping[Role, Sequence[int]]) -> list[list[Role]]:
    """The roles of each dial: those that meet where places count are one's."""
    role_of = {root: role for role, members in by_role.items() for root in members}
    dial_of: dict[Role, list[Role]] = {role: [role] for role in by_role}
    for labels in flow.tied:
        meeting = {role_of[flow.root(label)] for label in labels}
        united: list[Role] = []
        for role in meeting:
            united += [each for each in dial_of[role] if each not in united]
        for role in united:
            dial_of[role] = united
    return list({id(each): each for each in dial_of.values()}.values())


def _dial(flow: Flow, members: Sequence[int], is_tied: bool, least: float, multiple: int) -> Dial:
    chosen = set(members)
    outs, ins = (
        {name: n for name, labels in table.items() if (n := _among(flow, labels, chosen))}
        for table in (flow.outs, flow.ins)
    )
    numbers = {
        key: value for key, (value, label) in flow.numbers.items() if flow.root(label) in chosen
    }
    size = math.gcd(*outs.values(), *numbers.values()) if is_tied else len(members)
    dial = Dial(tuple(members), size, outs, ins, (), numbers)
    levels = _levels(flow, dial, least, multiple)
    while is_tied and len(levels) < FEW and multiple > 1:  # few numbers fit all that is tied
        multiple //= 2
        levels = _levels(flow, dial, least, multiple)
    return replace(dial, levels=levels)


def _among(flow: Flow, labels: Tensor, chosen: set[int]) -> int:
    return sum(root in chosen for root in flow.roots(labels))


def _levels(flow: Flow, dial: Dial, least: float, multiple: int) -> tuple[int, ...]:
    """What a dial may be set to: whole channels a group, and widths that are multiples."""

    def fits(level: int) -> bool:
        parts = [
            (layer, count * level, end is dial.outs)
            for end in (dial.outs, dial.ins)
            for layer, count in end.items()
        ]
        return level == dial.size or all(
            part % dial.size == 0
            and (part // dial.size) % flow.groups.get(layer, 1) == 0
            and (not is_out or (part // dial.size) % multiple == 0)
            for layer, part, is_out in parts
        )

    lowest = max(1, math.ceil(least * dial.size))
    return tuple(level for level in range(dial.size, lowest - 1, -1) if fits(level))
