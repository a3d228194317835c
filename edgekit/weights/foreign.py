"""Read what others wrote: a `.pth` or `.safetensors` file -> a plain state dict of float32.

    file -(weights only)-> {"model": {"module.conv.weight": half, ...}, "epoch": 90}
         -(unwrap)->       {"conv.weight": float32, ...}

A `.pth` is a pickle, a program. It is read by torch's restricted reader, which makes tensors and
plain containers and refuses all else; no part of it is ever run.
"""

import argparse
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from edgekit.errors import CheckpointError

WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
)
"""Under which key a training program keeps the weights. A moving average comes first: it is what
its authors evaluate and publish the accuracy of."""
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
"""What DataParallel, torch.compile and training frameworks put before every name."""
COUNTERS = ("num_batches_tracked", "n_averaged")
"""Last parts of the names of tensors that count training steps; no network needs them to run."""

DEPTH = 8
"""Of wrappers around wrappers; a pickle may hold itself, and then there is no end to them."""

Say = Callable[[str], None]


def read_foreign(path: Path, say: Say) -> dict[str, np.ndarray]:
    """Read a state dict: name -> float32 array, in the file's order.

    Args:
        path: `.safetensors`, or what `torch.save` wrote, under any other name.
        say: is told, a line each, what was left out or converted.

    Raises:
        CheckpointError: it cannot be read, holds more than plain data, or no floating-point
            tensors; or one has numbers that are not finite.
    """
    stored = _read(path)
    tensors = _without_prefixes(_tensors(_unwrap(stored, path, say), say), say)
    counted = [name for name in tensors if name.rpartition(".")[2] in COUNTERS]
    kept = {name: value for name, value in tensors.items() if name not in counted}
    if not kept:
        raise CheckpointError(
            f"{path} has no tensors: give a state dict, as torch.save(model.state_dict(), FILE) "
            "writes it"
        )
    kinds = sorted({str(v.dtype).removeprefix("torch.") for v in kept.values()} - {"float32"})
    arrays = {name: _array(name, value, path) for name, value in kept.items()}
    if kinds:
        say(f"converted to float32 from {', '.join(kinds)}")
    return arrays


def _read(path: Path) -> Any:
    if not path.is_file():
        what = "that is a folder" if path.is_dir() else "no file"
        raise CheckpointError(f"{path}: {what}; give a .pth, .pt or .safetensors file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path, device="cpu")
        return _read_pickle(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged, or of another kind: {_line(error)}") from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # torch's reader raises what a damaged file makes of it
        raise CheckpointError(_refusal(path, error)) from error


def _read_pickle(path: Path) -> Any:
    # A Namespace of training options lies in many checkpoints; it is plain data.
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the age of the file's form
        return torch.load(
            path,
            map_location="cpu",
            weights_only=True,
            mmap=zipfile.is_zipfile(path),  # the form before torch 1.6 cannot be mapped
        )


def _refusal(path: Path, error: Exception) -> str:
    """One line of torch's paragraphs."""
    text = str(error)
    named = re.search(r"GLOBAL ([\w.]+)", text)
    if "TorchScript" in text:
        return (
            f"{path} is a TorchScript archive, a program: save the weights alone, with "
            "torch.save(torch.jit.load(FILE).state_dict(), OUT)"
        )
    with path.open("rb") as file:  # what torch.save ever wrote begins as a zip or as a pickle does
        is_saved = file.read(1) in (b"P", b"\x80")
    if named or ("Unsupported" in text and is_saved):
        what = f"'{named[1]}'" if named else "more than tensors"
        return (
            f"{path} is refused: it is a pickle that holds {what}, which to load would mean to run "
            "code of the file's; where you trust its author, load it yourself and save "
            "model.state_dict() alone"
        )
    # Its other errors tell of its own workings, as `KeyError: 101` for a text file.
    why = f" ({_line(error).partition('. ')[0]})" if isinstance(error, RuntimeError) else ""
    return f"{path} is damaged, or not what torch.save writes{why}; fetch or save it again"


def _unwrap(stored: Any, path: Path, say: Say) -> Mapping[Any, Any]:
    """Find the state dict in what a training program saved around it."""
    for _ in range(DEPTH):
        if not isinstance(stored, Mapping):
            break
        key = next((k for k in WRAPPERS if isinstance(stored.get(k), Mapping)), None)
        if key is None:
            return stored
        others = [str(k) for k in stored if k != key]
        left = f"; left out: {_listed(others)}" if others else ""
        say(f"took the weights under '{key}'{left}")
        stored = stored[key]
    else:
        raise CheckpointError(
            f"{path} wraps its weights more than {DEPTH} times: save model.state_dict() alone"
        )
    raise CheckpointError(
        f"{path} holds a {type(stored).__name__}, not a state dict: save model.state_dict() in it"
    )


def _tensors(stored: Mapping[Any, Any], say: Say) -> dict[str, Tensor]:
    found = {str(name): value for name, value in stored.items() if isinstance(value, Tensor)}
    others = [str(name) for name, value in stored.items() if not isinstance(value, Tensor)]
    if found and others:
        say(f"left out what is no tensor: {_listed(others)}")
    return found


def _without_prefixes(tensors: dict[str, Tensor], say: Say) -> dict[str, Tensor]:
    """Take away what stands before *every* name but those of counters."""
    names = [name for name in tensors if name not in COUNTERS]
    for prefix in PREFIXES:
        if names and all(name.startswith(prefix) for name in names):
            say(f"took '{prefix}' off every name")
            return _without_prefixes({n.removeprefix(prefix): v for n, v in tensors.items()}, say)
    return tensors


def _array(name: str, tensor: Tensor, path: Path) -> np.ndarray:
    """(…) float32, its own memory."""
    if not tensor.is_floating_point() or tensor.layout != torch.strided:
        words = (str(part).removeprefix("torch.") for part in (tensor.layout, tensor.dtype))
        raise CheckpointError(
            f"{path}: tensor '{name}' is {' '.join(words).removeprefix('strided ')}; weights are "
            "dense floating-point numbers: give the checkpoint before quantisation or pruning"
        )
    stored = 0 if tensor.is_meta else tensor.untyped_storage().nbytes()
    if tensor.numel() * tensor.element_size() > stored:  # a small file could fill all memory
        raise CheckpointError(
            f"{path}: tensor '{name}' {tuple(tensor.shape)} has more numbers than the file holds "
            "for it: save tensors that are whole (not on 'meta', not expanded)"
        )
    array: np.ndarray = tensor.to(torch.float32).contiguous().numpy().copy()
    if not np.isfinite(array).all():
        raise CheckpointError(
            f"{path}: tensor '{name}' has numbers that are not finite as float32: training "
            "diverged, or the file is damaged; give another checkpoint"
        )
    return array


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
