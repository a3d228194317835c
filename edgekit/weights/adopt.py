"""Make a foreign weights file ours: a `.safetensors` with a card, held to the network's names.

The way of a file: `read_foreign`, `rename` (published.toml), guess the arguments, check, write.
"""

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgekit import __version__, checkpoint, plugins
from edgekit.checkpoint import Card
from edgekit.errors import CheckpointError, InputError
from edgekit.lower.guess import Shapes, expected_shapes, guess_arguments
from edgekit.lower.load import build_network, count_classes, read_labels
from edgekit.lower.network import Argument
from edgekit.published import IMAGENET, Published, catalogue
from edgekit.spec import ImageSpec
from edgekit.weights.foreign import Say, read_foreign

SEED = 0
"""Of what `partial` initialises."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of weights that come without a card."""

    architecture: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    """Of the architecture's function; what shapes tell need not be given."""
    image: ImageSpec = IMAGENET
    labels: tuple[str, ...] = ()
    """Empty for `class 0`, `class 1` ..."""
    license: str = "unknown"
    trained_on: str = "unknown"
    accuracy: float | None = None
    accuracy_images: int = 0

    @classmethod
    def of(cls, entry: Published) -> "Origin":
        """What is published of a checkpoint."""
        return cls(
            architecture=entry.architecture,
            arguments=entry.arguments,
            image=entry.image,
            labels=entry.labels,
            license=entry.license,
            trained_on=f"{entry.trained_on}, by others: {entry.url}",
            accuracy=entry.top1,
            accuracy_images=entry.images,
        )


def adopt(
    file: Path,
    origin: Origin,
    out: Path,
    say: Say,
    labels: Path | None = None,
    partial: bool = False,
    force: bool = False,
) -> Path:
    """Import `file` as the checkpoint `out`, with a card beside it; returns `out`.

    What is stored is the network's own state dict: batch norm is folded only where it came so.

    Args:
        file: `.safetensors`, or what `torch.save` wrote.
        origin: what the card is to say.
        out: a `.safetensors` file; missing folders are made.
        say: is told, a line each, what was done to the file's contents.
        labels: a text file, one label a line, instead of `origin.labels`.
        partial: whether tensors may be missing: they are initialised, and the card says so.
        force: whether `out` may be replaced.

    Raises:
        CheckpointError: `file` is refused; names the first tensor that is missing, left over or of
            another shape.
        InputError: `out` exists, or is no `.safetensors`; labels of another number.
        UnknownName, SpecError, StorageError: as building and writing raise them.
    """
    check_out(file, out, force)
    plugins.architecture(origin.architecture)  # an unknown name is the first thing to say
    tensors = rename(origin.architecture, read_foreign(file, say), str(file), say)
    arguments = guess_arguments(origin.architecture, tensors, origin.arguments)
    torch.manual_seed(SEED)
    module = build_network(origin.architecture, arguments)
    expected = expected_shapes(module, tensors)
    missing = _missing(expected, tensors, file, say) if partial else ()
    if not partial:
        _check_whole(expected, tensors, file)
    whole = {**_values(module, missing), **tensors}
    checkpoint.check(expected, whole, str(file))
    module.load_state_dict({n: torch.from_numpy(v) for n, v in whole.items()}, strict=False)
    classes = count_classes(module, origin.image, origin.architecture)
    card = Card(
        schema=checkpoint.SCHEMA,
        architecture=origin.architecture,
        arguments=arguments,
        image=origin.image,
        labels=read_labels(labels, origin.labels, classes),
        sha256="",
        trained_on=_trained_on(origin, file, missing),
        license=origin.license,
        accuracy=None if missing else origin.accuracy,
        accuracy_images=0 if missing else origin.accuracy_images,
        recipe="",
        seed=SEED,
        tools={"edgekit": __version__, "torch": version("torch")},
    )
    checkpoint.write(out, {name: whole[name] for name in expected}, card)
    stated = ", ".join(f"{name}={value}" for name, value in arguments.items())
    say(f"{origin.architecture}({stated}): {len(expected)} tensors, {classes} classes")
    return out


def check_out(file: Path, out: Path, force: bool) -> None:
    """Whether `out` may be written; raises InputError."""
    checkpoint.check_name(out)
    if out.exists() and file.exists() and out.samefile(file):
        raise InputError(f"{out} is the file that is to be imported; give another one with -o")
    if not force:
        checkpoint.check_free(out, "replace it with --force")


def rename(
    architecture: str, tensors: dict[str, np.ndarray], source: str, say: Say
) -> dict[str, np.ndarray]:
    """Another code base's names -> ours, where `published.toml` knows them; else as they are.

    Raises CheckpointError: the names are known, but the tensors are not what they promise.
    """
    for naming in catalogue().names:
        if naming.has not in tensors or not fnmatch.fnmatchcase(architecture, naming.architecture):
            continue
        say(f"its names are those of {naming.source}")
        renamed: dict[str, np.ndarray] = {}
        for name, value in tensors.items():
            ours = name
            for pattern, replacement in naming.rename:
                ours = re.sub(pattern, replacement, ours)
            if ours in renamed:
                raise CheckpointError(f"{source}: two tensors would both be called '{ours}'")
            renamed[ours] = value
        return _convert(architecture, naming.convert, renamed, source)
    return tensors


def _convert(
    architecture: str, function: str, tensors: dict[str, np.ndarray], source: str
) -> dict[str, np.ndarray]:
    """Let the architecture's own file map the state dict."""
    if not function:
        return tensors
    convert = plugins.converter(architecture, function)
    try:
        converted = convert({name: torch.from_numpy(v) for name, v in tensors.items()})
    except Exception as error:  # a state dict that it does not expect
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise CheckpointError(
            f"{source} cannot be converted to '{architecture}': {reason}"
        ) from error
    return {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in converted.items()}


def _check_whole(expected: Shapes, tensors: Mapping[str, np.ndarray], file: Path) -> None:
    """Say of a network that lacks only some layers, as its head, how to import it all the same."""
    missing = [name for name in expected if name not in tensors]
    fits = all(expected.get(name) == value.shape for name, value in tensors.items())
    if missing and fits:
        raise CheckpointError(
            f"{file} has no tensor '{missing[0]}' {expected[missing[0]]}, which the network needs; "
            f"the {len(tensors)} that it has fit: to have the other {len(missing)} initialised, "
            "give --partial"
        )


def _missing(
    expected: Shapes, tensors: Mapping[str, np.ndarray], file: Path, say: Say
) -> tuple[str, ...]:
    missing = tuple(name for name in expected if name not in tensors)
    if len(missing) == len(expected):
        raise CheckpointError(
            f"{file} has no tensor of the network's, as '{missing[0]}'; its own first one is "
            f"'{next(iter(tensors))}': is it of another architecture?"
        )
    for name in missing:
        say(f"missing, initialised from seed {SEED}: {name} {expected[name]}")
    return missing


def _values(module: nn.Module, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    state = module.state_dict()
    return {name: state[name].numpy().copy() for name in names}


def _trained_on(origin: Origin, file: Path, missing: tuple[str, ...]) -> str:
    said = f"{origin.trained_on}; imported from {file.name}, sha256 {checkpoint.digest(file)}"
    if not missing:
        return said
    layers = sorted({name.rpartition(".")[0] for name in missing})
    return f"{said}; not trained, initialised from seed {SEED}: {', '.join(layers)}"
