"""What flows where in a network: labels, one a channel."""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

Kind = Literal["dense", "grouped", "depthwise", "channelwise"]
"""Of a layer: whether it makes channels (the first two), or treats each one by itself."""


@dataclass(slots=True)
class Flow:
    """What flows where; labels are numbers, and `same` says which of them mean one channel."""

    kinds: dict[str, Kind] = field(default_factory=dict)
    outs: dict[str, Tensor] = field(default_factory=dict)
    """Layer -> (C_out,) int64, the labels of what it makes or passes on."""
    ins: dict[str, Tensor] = field(default_factory=dict)
    """Layer that makes channels -> (C_in,) int64, the labels of what it takes."""
    groups: dict[str, int] = field(default_factory=dict)
    """Of the layers that are `grouped`."""
    same: list[int] = field(default_factory=list)
    """Label -> another one of the same channel, or itself: a forest, see `root`."""
    fixed: set[int] = field(default_factory=set)
    """Labels that cannot be pruned: the image's, and those of the network's answers."""
    tied: list[set[int]] = field(default_factory=list)
    """Labels whose places count, as a split or a group's channels do: thinned out together."""
    numbers: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """(module, attribute) -> a plain number that follows from the widths, and a label it belongs
    to."""

    def root(self, label: int) -> int:
        """The label that stands for all of the same channel."""
        while self.same[label] != label:
            self.same[label] = self.same[self.same[label]]
            label = self.same[label]
        return label

    def roots(self, labels: Tensor) -> list[int]:
        return [self.root(label) for label in labels.tolist()]
