"""What an interrupted run goes on from: all that changes while a network is trained."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from edgekit.checkpoint import replace_files
from edgekit.errors import CheckpointError


@dataclass(slots=True)
class State:
    """Changes with each step; `save` and `resume` keep it."""

    module: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    best: nn.Module | None = None
    """The average at the epoch with the best top-1, where training may stop early."""
    beside: nn.Module = field(default_factory=nn.Module)
    """What learns with the network, and is not kept: see `Objective`."""
    best_top1: float = -1.0
    best_epoch: int = 0
    epoch: int = 0
    step: int = 0
    """Of the epoch: what comes next."""
    total: float = 0.0
    """Sum of the epoch's losses so far."""
    early: float = 0.0
    """Mean of the run's first losses, see `look`."""
    astray: int = 0
    """Steps in a row whose loss was far off, see `look`."""
    rows: list[dict[str, float]] = field(default_factory=list)
    """One an epoch that is done, see `Listener.epoch`."""

    def _parts(self) -> dict[str, Any]:
        parts = {
            "module": self.module,
            "average": self.average,
            "optimiser": self.optimiser,
            "scaler": self.scaler,
            "beside": self.beside,
        }
        return parts if self.best is None else {**parts, "best": self.best}


_NUMBERS = ("best_top1", "best_epoch", "epoch", "step", "total", "early", "astray", "rows")


def save(path: Path, state: State) -> None:
    """Write the state; the file is replaced whole. Raises StorageError."""
    content = io.BytesIO()
    parts = {name: part.state_dict() for name, part in state._parts().items()}
    torch.save(parts | {name: getattr(state, name) for name in _NUMBERS}, content)
    replace_files({path: content.getvalue()})


def resume(path: Path, state: State) -> bool:
    """Load what `save` wrote, if it is there.

    Raises:
        CheckpointError: the file is damaged, or of another network.
    """
    if not path.exists():
        return False
    try:
        stored = torch.load(path, weights_only=True, map_location="cpu")
        for name, part in state._parts().items():
            part.load_state_dict(stored[name])
        for name in _NUMBERS:
            setattr(state, name, stored[name])
    except (OSError, RuntimeError, UnpicklingError, KeyError, ValueError, EOFError) as error:
        raise CheckpointError(
            f"cannot go on from {path}: it is damaged, or of another network; "
            "remove that file to start again"
        ) from error
    return True
