"""What a round of training begins with, kept in the step's folder: masks and weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from edgekit.checkpoint import replace_files
from edgekit.errors import CheckpointError
from edgekit.learn.prune.masks import Masks

_MASK, _WEIGHTS = "mask.", "weights."


@dataclass(frozen=True, slots=True)
class Start:
    """What a round begins with; on the CPU."""

    masks: Masks
    weights: Mapping[str, Tensor]
    """A state dict: parameters and batch norm's statistics. Not yet masked."""


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """A state dict of its own memory, on the CPU."""
    return {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in module.state_dict().items()
    }


def write(path: Path, start: Start) -> None:
    """Write both into one file, which is replaced whole. Raises StorageError."""
    tensors = {f"{_MASK}{name}": stays for name, stays in start.masks.items()}
    tensors |= {f"{_WEIGHTS}{name}": value for name, value in start.weights.items()}
    replace_files({path: save(tensors)})


def read(path: Path) -> Start:
    """Read what `write` wrote.

    Raises:
        CheckpointError: the file is damaged.
    """
    try:
        tensors = load(path.read_bytes())
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"cannot go on from {path}: {error}; remove that file to do its round again"
        ) from error
    return Start(*(_under(prefix, tensors) for prefix in (_MASK, _WEIGHTS)))


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
