"""Checkpoints: `<name>.safetensors` and, beside it, `<name>.json`, its card.

The card says what the weights are: architecture, image contract, labels, accuracy, provenance.
Weights without a card can be read; edgekit never writes them without one. Imports no torch.
"""

import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as serialise_tensors

from edgekit import values
from edgekit.errors import CheckpointError, InputError, StorageError, UnknownName
from edgekit.published import Published, catalogue
from edgekit.spec import ImageSpec

SCHEMA = 2
"""Of the cards that are written. Those of schema 1 had none of the fields from `recipe_text` on."""
CARRIED = Path(__file__).parent / "checkpoints"
"""The checkpoints that edgekit itself carries."""


@dataclass(frozen=True, slots=True)
class Made:
    """One step of a checkpoint's history."""

    step: str
    """The step's name in its recipe."""
    kind: str
    """`train`, `distill`, `prune`, `quantize`; `import` for weights from elsewhere."""
    recipe: str
    seed: int
    sha256: str
    """Of the checkpoint's weights file that this step left; empty for this one's own last."""
    accuracy: float | None
    """Top-1 in [0, 1] of what the step left."""
    macs: int
    parameters: int
    """Those that are not zero."""


@dataclass(frozen=True, slots=True)
class Range:
    """An activation's integers: real = scale * (integer - zero_point)."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class Card:
    """What a weights file holds, for people and for `edgekit build`."""

    schema: int
    architecture: str
    arguments: Mapping[str, int | float | str | bool]
    """Keyword arguments of the architecture's function."""
    image: ImageSpec
    labels: tuple[str, ...]
    """Names for people, in the order of the network's outputs."""
    sha256: str
    """Of the `.safetensors` file, lower-case hexadecimal."""
    trained_on: str
    """For people: the data and its terms."""
    license: str
    accuracy: float | None
    """Top-1 in [0, 1] on the validation images; None where it was not measured."""
    accuracy_images: int
    recipe: str
    """Name of the recipe that made it; empty for imported weights."""
    seed: int
    tools: Mapping[str, str]
    """Package -> version."""
    recipe_text: str = ""
    """The recipe as it was written, TOML."""
    data: Mapping[str, str] = field(default_factory=dict)
    """Split -> SHA-256 of its images and classes."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What else was measured: `macs`, `parameters`, `sparsity` ..."""
    history: tuple[Made, ...] = ()
    """How it came about, first step first; the last one made these weights."""
    widths: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Of a network whose channels were pruned: module -> attribute -> value, as in
    `{"features.1.conv.0.0": {"out_channels": 24}}`, over what the architecture builds."""
    ranges: Mapping[str, Range] = field(default_factory=dict)
    """Of a network trained for int8: activation -> the integers that stand for it."""
    keep_float: tuple[str, ...] = ()
    """Of a network trained for int8: the layers that are not quantised, as in `features.0.*`."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights in memory, (name -> array), and their card if they have one."""

    path: Path
    card: Card | None
    tensors: Mapping[str, np.ndarray]


def read(path: Path) -> Checkpoint:
    """Read weights and card.

    Raises:
        CheckpointError: the file is missing or damaged, or its bytes are not those that its card
            was written for.
    """
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"cannot read the checkpoint {path}: {error.strerror}; "
            "give a .safetensors file or the name of a checkpoint"
        ) from error
    card = read_card(path)
    found = hashlib.sha256(stored).hexdigest()
    if card is not None and card.sha256 != found:
        raise CheckpointError(
            f"{path} has sha256 {found}, but its card {card_path(path).name} was written for "
            f"{card.sha256}: one of the two is damaged or was replaced; fetch both again"
        )
    try:
        tensors = parse_tensors(stored)
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a safetensors file, or is damaged: {error}; fetch it again"
        ) from error
    return Checkpoint(path, card, tensors)


def read_card(path: Path) -> Card | None:
    """Read the card of the weights file `path`; None where there is none."""
    where = card_path(path)
    if not where.exists():
        return None
    card = values.read_json(Card, where, CheckpointError)
    if card.schema not in (1, SCHEMA):
        raise CheckpointError(
            f"{where} has schema {card.schema}; this edgekit reads schema 1 to {SCHEMA}: "
            "update edgekit, or write the card anew"
        )
    return card


def card_of(name_or_file: str) -> Card | None:
    """The card of a checkpoint that `resolve` finds; None if there is no such, or it has none."""
    try:
        return read_card(resolve(name_or_file))
    except (CheckpointError, UnknownName):
        return None


def write(path: Path, tensors: Mapping[str, np.ndarray], card: Card) -> None:
    """Write weights and card; `card.sha256` is filled in.

    Both are on the disk before either gets its name, so a failure leaves what was there before. A
    power cut between the two renames leaves a pair that `read` refuses.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    stored = serialise_tensors({name: np.ascontiguousarray(tensors[name]) for name in tensors})
    digested = dataclasses.replace(card, sha256=hashlib.sha256(stored).hexdigest())
    replace_files({path: stored, card_path(path): values.to_json(digested).encode()})


def replace_files(contents: Mapping[Path, bytes]) -> None:
    """Write files so that a reader sees all of each, or what was there before.

    Missing folders are made. Raises StorageError.
    """
    partials: dict[Path, Path] = {}
    path = Path()
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            partials[path] = Path(name)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partials[path].chmod(0o644)  # mkstemp's files are for their owner alone
        for path, partial in partials.items():
            partial.replace(path)
    except OSError as error:
        raise StorageError.from_os(error, path) from error
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)


def card_path(path: Path) -> Path:
    """Where the card of the weights file `path` lies."""
    return path.with_suffix(".json")


def check_name(path: Path) -> None:
    """Whether weights may be written under this name; raises CheckpointError."""
    if path.suffix != ".safetensors":
        raise CheckpointError(f"'{path}' is not the name of a .safetensors file; give one with -o")


def check_free(path: Path, otherwise: str = "remove it first") -> None:
    """Whether neither weights nor a card would be replaced; raises InputError."""
    for each in (path, card_path(path)):
        if each.exists():
            raise InputError(f"{each} exists; give another file with -o, or {otherwise}")


def is_from(path: Path, entry: Published) -> bool:
    """Whether `path` holds what was imported from `entry`, whole."""
    try:
        card = read(path).card
    except CheckpointError:
        return False
    return card is not None and entry.url in card.trained_on


def digest(path: Path) -> str:
    """SHA-256 of a weights file, lower-case hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def default() -> Path:
    """The checkpoint that `edgekit build` uses when no model is named."""
    return CARRIED / "shufflenet_v2_tiny50.safetensors"


def folder() -> Path:
    """Where `edgekit weights pull` puts what it fetched; it need not exist.

    `EDGEKIT_WEIGHTS` names another one than `edgekit/weights` in the user's cache.
    """
    if chosen := os.environ.get("EDGEKIT_WEIGHTS"):
        return Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "edgekit" / "weights"


def names() -> tuple[str, ...]:
    """Names of the checkpoints that are carried, or were pulled; sorted."""
    return tuple(sorted(_named()))


def resolve(name_or_file: str) -> Path:
    """Find a weights file by its path, or a carried or pulled checkpoint by its name.

    Raises CheckpointError for a path that is not there, and UnknownName for a name.
    """
    file = Path(name_or_file).expanduser()
    if file.is_file():
        return file
    if name_or_file in (named := _named()):
        return named[name_or_file]
    if file.suffix == ".safetensors" or len(file.parts) > 1:
        raise CheckpointError(
            f"no checkpoint at {file}; those with a name are: {', '.join(names())}"
        )
    if any(entry.name == name_or_file for entry in catalogue().checkpoints):
        raise CheckpointError(
            f"'{name_or_file}' is published, but not on this machine: "
            f"fetch it with 'edgekit weights pull {name_or_file}'"
        )
    raise UnknownName("checkpoint", name_or_file, names())


def _named() -> dict[str, Path]:
    """Name -> weights file; what edgekit carries comes before what was pulled."""
    return {
        file.name.removesuffix(".safetensors"): file
        for place in (folder(), CARRIED)
        for file in place.glob("*.safetensors")
    }


def check(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, np.ndarray], source: str
) -> None:
    """Compare names and shapes; names the first tensor that differs, in the network's order.

    Raises:
        CheckpointError: a tensor is missing, has another shape, or is left over.
    """
    for name, shape in expected.items():
        if name not in found:
            raise CheckpointError(
                f"{source} has no tensor '{name}' {shape}, which the network needs; "
                "is it of another architecture or other arguments?"
            )
        if tuple(found[name].shape) != tuple(shape):
            raise CheckpointError(
                f"{source}: tensor '{name}' is {tuple(found[name].shape)}, the network needs "
                f"{tuple(shape)}; is it of another width or number of classes?"
            )
    for name in found:
        if name not in expected:
            raise CheckpointError(
                f"{source} has a tensor '{name}' {tuple(found[name].shape)} that the network "
                "does not have; is it of another architecture?"
            )
