"""What `manifest.json` holds, and the laws that its values keep among themselves.

The values are plain and frozen; reading and writing files is `edgekit.bundle`'s.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

from edgekit.errors import BundleError
from edgekit.spec import (
    USUAL_LOOP,
    ImageSpec,
    LoopOptions,
    Precision,
    Scheme,
    SessionOptions,
    TensorSpec,
)

SCHEMA = 1
MANIFEST = "manifest.json"
REPORT = "report.json"
PAGE = "report.html"
UNHASHED = (REPORT, PAGE)
"""What depends on the machine and the day: may hold anything, or be absent; nothing else may lie
beside what is listed."""

_COMPONENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(?<!\.)")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far two sets of logits may be apart."""

    max_abs_error: float
    """Largest absolute difference of one logit."""
    snr_db: float
    """Least signal-to-noise ratio, dB, of all logits together."""
    top1_agreement: float
    """Least share of images with the same top-1 class, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Edges:
    """A step of the parity gate on generated images: constant, very wide, of one pixel ..."""

    images: int
    max_abs_error: float
    snr_db: float
    """dB, as in `Hop`."""
    tolerance: Tolerance


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of the parity gate, as measured on real images, and what it was held to."""

    name: str
    """`eager -> folded` and so on."""
    images: int
    max_abs_error: float
    snr_db: float
    """dB; 200 stands for "no difference", because JSON has no infinity."""
    top1_agreement: float
    tolerance: Tolerance
    edges: Edges | None = None
    """None in a bundle of before there were any."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Top-1 in [0, 1] on `images` labelled images; `data` says of what, and on which."""

    top1: float
    images: int
    data: str
    """For people: which images."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the bundle was made of; equal provenance means equal bytes."""

    architecture: str
    arguments: Mapping[str, int | float | str | bool]
    checkpoint_sha256: str
    calibration_sha256: str
    calibration_images: int
    parity_sha256: str
    tools: Mapping[str, str]
    """Versions by package name."""


@dataclass(frozen=True, slots=True)
class Golden:
    """One recorded run; paths inside the bundle."""

    frame: str
    """PNG, a camera frame."""
    input: str
    """`.npy`, the input tensor that the image contract makes of it."""
    output: str
    """`.npy`, the logits."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of the bundle: `/`-separated path inside it, bytes, lower-case hex digest."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that a device needs to know about the model, and all that proves it."""

    schema: int
    name: str
    target: str
    backend: str
    precision: Precision
    scheme: Scheme
    model: str
    """Path inside the bundle: a file, or the folder of a model package."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    image: ImageSpec
    decoding: Literal["softmax"]
    labels: str
    session: SessionOptions
    golden: tuple[Golden, ...]
    golden_tolerance: Tolerance
    parity: tuple[Hop, ...]
    accuracy: Accuracy | None
    provenance: Provenance
    notes: tuple[str, ...]
    loop: LoopOptions = USUAL_LOOP
    report: str = REPORT
    """Depends on the machine and the day: not hashed, may be absent."""
    files: tuple[FileEntry, ...] = ()
    """Every other file but the manifest itself, sorted by path."""
    digest: str = ""
    """sha256 of `manifest.json` with these 64 digits written as zeros."""


def check(manifest: Manifest, source: str) -> None:
    """Hold a manifest to its own laws; `source` is the file that the error names.

    Raises:
        BundleError: names the key, what it is and what it would have to be.
    """
    names = [entry.path for entry in manifest.files]
    for key, name in _named(manifest):
        _check_name(key, name, source)
    for text in _texts(manifest):
        check_line(text, source)
    _check_collisions(names, source)
    _check_present(manifest, set(names), source)
    _check_tensors(manifest, source)
    for entry in manifest.files:
        _require(entry.size >= 0, f"'files': {entry.path} has the size {entry.size}", source)
        _require(
            _SHA256.fullmatch(entry.sha256) is not None,
            f"'files': {entry.path} has no sha256 of 64 lower-case hex digits",
            source,
        )


def check_line(text: str, source: str) -> None:
    """Refuse control characters: a terminal that prints them would obey them.

    Raises:
        BundleError: shows the text, escaped.
    """
    if _CONTROL.search(text):
        raise BundleError(f"{source}: control characters in {text[:80]!r}")


def folders(paths: Iterable[str]) -> frozenset[str]:
    """Every folder on the way to `paths`: `a/b/c` gives `a` and `a/b`."""
    return frozenset(prefix for path in paths for prefix in _prefixes(path) if prefix != path)


def _require(holds: bool, message: str, source: str) -> None:
    if not holds:
        raise BundleError(f"{source}: {message}")


def _texts(value: Any) -> Iterator[str]:
    """Every string in nested dataclasses, dicts and sequences, keys of dicts too."""
    if isinstance(value, str):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _texts(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for pair in value.items():
            yield from _texts(pair)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _named(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Every path that the manifest states, with its key."""
    yield "model", manifest.model
    yield "labels", manifest.labels
    for golden in manifest.golden:
        yield from (("golden", name) for name in (golden.frame, golden.input, golden.output))
    for entry in manifest.files:
        yield "files", entry.path


def _check_name(key: str, name: str, source: str) -> None:
    """Relative, inside the bundle, and the same file on every file system."""
    plain = all(_COMPONENT.fullmatch(part) for part in name.split("/")) and len(name) <= 1024
    _require(
        plain and name not in (MANIFEST, *UNHASHED),
        f"'{key}' names the file {name!r}; a name must be relative, without '..', "
        "of the letters A-Z a-z 0-9 _ . + - and '/', "
        f"and none of {', '.join((MANIFEST, *UNHASHED))}",
        source,
    )


def _check_collisions(names: list[str], source: str) -> None:
    """No path twice, nor two that differ in letter case only, nor a file that is a folder."""
    _require(names == sorted(names), "'files' is not sorted by path", source)
    seen: dict[str, str] = {}
    for name in names:
        for prefix in _prefixes(name):
            other = seen.setdefault(prefix.lower(), prefix)
            _require(
                other == prefix,
                f"'files': {other!r} and {prefix!r} are one name where letter case is ignored",
                source,
            )
    _require(len(set(names)) == len(names), "'files' lists a path twice", source)
    both = folders(names).intersection(names)
    _require(not both, f"'files' lists {sorted(both)} as a file and as a folder", source)


def _check_present(manifest: Manifest, names: set[str], source: str) -> None:
    present = names | folders(names)
    for key, name in _named(manifest):
        where = present if key == "model" else names
        _require(name in where, f"'{key}' names {name!r}, which 'files' does not list", source)
    _require(manifest.report == REPORT, f"'report' must be {REPORT!r}", source)


def _check_tensors(manifest: Manifest, source: str) -> None:
    """One camera image in, one row of logits out: what every bundle of schema 1 is."""
    image = manifest.image
    _require(min(image.height, image.width) > 0, "'image': a side is not positive", source)
    _require(0 < image.crop_fraction <= 1, "'image.crop_fraction' is not in (0, 1]", source)
    _require(0 <= image.fill <= 255, "'image.fill' is not in 0 to 255", source)
    _require(min(image.std) > 0, "'image.std' is not positive", source)
    wanted = (1, image.height, image.width, 3)
    given = [(spec.shape, spec.dtype) for spec in manifest.inputs]
    _require(
        given == [(wanted, "uint8")],
        f"'inputs' must be one uint8 tensor of {wanted}, as 'image' says; it is {given}",
        source,
    )
    given = [(spec.shape, spec.dtype) for spec in manifest.outputs]
    _require(
        len(given) == 1
        and given[0][1] == "float32"
        and given[0][0][:1] == (1,)
        and len(given[0][0]) == 2
        and given[0][0][1] > 0,
        f"'outputs' must be one float32 tensor of (1, classes); it is {given}",
        source,
    )


def _prefixes(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[: end + 1]) for end in range(len(parts)))
