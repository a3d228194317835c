"""What an interrupted run goes on from: weights, their moving average, the optimiser."""

import io
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import nn

from edgekit.checkpoint import replace_files
from edgekit.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class State:
    """All that changes while a network is trained."""

    module: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer


def save(path: Path, state: State, epochs: int) -> None:
    """Write the state after `epochs` epochs; the file is replaced whole. Raises StorageError."""
    content = io.BytesIO()
    torch.save(
        {
            "epochs": epochs,
            "module": state.module.state_dict(),
            "average": state.average.state_dict(),
            "optimiser": state.optimiser.state_dict(),
        },
        content,
    )
    replace_files({path: content.getvalue()})


def resume(path: Path, state: State) -> int:
    """Load what `save` wrote, if it is there; returns the number of epochs done.

    Raises:
        CheckpointError: the file is damaged, or of another network.
    """
    if not path.exists():
        return 0
    try:
        stored = torch.load(path, weights_only=True)
        state.module.load_state_dict(stored["module"])
        state.average.load_state_dict(stored["average"])
        state.optimiser.load_state_dict(stored["optimiser"])
        return int(stored["epochs"])
    except (OSError, RuntimeError, UnpicklingError, KeyError, ValueError, EOFError) as error:
        raise CheckpointError(
            f"cannot go on from {path}: it is damaged, or of another network; "
            "remove that file to start again"
        ) from error
