"""Where a run takes place: which device, and which of how many processes."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Place:
    """One process of a run."""

    device: torch.device
    rank: int = 0
    """Of this process, from 0; the first one measures and writes."""
    world: int = 1
    """How many processes there are."""

    @property
    def leads(self) -> bool:
        return self.rank == 0


HERE = Place(torch.device("cpu"))
