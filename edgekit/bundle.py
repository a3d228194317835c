"""The artifact: a folder with a model and the proof of what it is.

`read` verifies before any runtime opens anything: every byte is hashed, and a file that is missing,
unlisted, a link or not a regular file is refused by name. What is guaranteed is that the bytes were
right when `read` looked at them. A runtime opens the model again by its path afterwards, so whoever
can write to the folder in between can still change it: keep bundles where only their owner writes.
The digests tell damage and edits, not an author: they are not a signature.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit import __version__, files
from edgekit.errors import BundleError, IntegrityError, StorageError
from edgekit.manifest import (
    MANIFEST,
    PAGE,
    REPORT,
    SCHEMA,
    UNHASHED,
    Accuracy,
    Edges,
    FileEntry,
    Golden,
    Hop,
    Manifest,
    Provenance,
    Tolerance,
    check,
    check_line,
    folders,
)
from edgekit.values import json_value, parse, to_json

__all__ = (
    "MANIFEST",
    "PAGE",
    "REPORT",
    "SCHEMA",
    "UNHASHED",
    "Accuracy",
    "Bundle",
    "Edges",
    "FileEntry",
    "Golden",
    "Hop",
    "Manifest",
    "Provenance",
    "Tolerance",
    "read",
    "seal",
    "write_labels",
)

_ZEROS = "0" * 64
_LONGEST_MANIFEST = 16 << 20  # bytes; a real one has about 10 thousand
_LONGEST_LABELS = 64 << 20


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was verified when it was read."""

    path: Path
    manifest: Manifest
    labels: tuple[str, ...]
    """One per class, in the order of the logits; two classes may have the same."""

    @property
    def model(self) -> Path:
        """The model file (or package folder), to be given to a runtime."""
        return self.path / self.manifest.model

    @property
    def size(self) -> int:
        """All files together but the manifest and the report, bytes."""
        return sum(entry.size for entry in self.manifest.files)


def read(path: Path) -> Bundle:
    """Verify every byte of the bundle at `path`, then return what it says.

    Raises:
        BundleError: no bundle, or one of a schema that this edgekit does not know.
        IntegrityError: the bytes are not those that were built; names the file.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    _verify_listing(path, manifest)
    for entry in manifest.files:
        size, digest = files.digest(path, entry.path)
        if (size, digest) != (entry.size, entry.sha256):
            what = "has other bytes than" if size == entry.size else f"has {size} bytes, not"
            raise IntegrityError(
                f"{path}: {entry.path} {what} the {entry.size} that were built; "
                "copy the bundle again, or build it anew"
            )
    return Bundle(path, manifest, _read_labels(path, manifest))


def seal(folder: Path, manifest: Manifest) -> Manifest:
    """Hash every file in `folder` and write `manifest.json`; returns the manifest as written.

    The last step of a build: nothing but the report (`UNHASHED`) may change afterwards. Equal files
    and an equal `manifest` give equal bytes. `files` and `digest` of the one that is given are
    ignored.

    Raises:
        BundleError: a file has a name that could not be read back, or the manifest contradicts
            itself or the labels.
        StorageError: the manifest cannot be written.
    """
    entries = []
    for name in sorted(files.walk(folder)):
        if name not in (MANIFEST, *UNHASHED):
            entries.append(FileEntry(name, *files.digest(folder, name)))
    manifest = replace(manifest, files=tuple(entries), digest=_ZEROS)
    check(manifest, str(folder))
    _read_labels(folder, manifest)
    manifest = replace(manifest, digest=_sha256(to_json(manifest).encode()))
    try:
        (folder / MANIFEST).write_bytes(to_json(manifest).encode())
    except OSError as error:
        raise StorageError.from_os(error, folder / MANIFEST) from error
    return manifest


def write_labels(path: Path, labels: tuple[str, ...]) -> None:
    """Write one label per line; a label with a line break or a control character is refused."""
    for label in labels:
        check_line(label, str(path))
    try:
        path.write_bytes("".join(f"{label}\n" for label in labels).encode())
    except OSError as error:
        raise StorageError.from_os(error, path) from error


def _read_manifest(path: Path) -> Manifest:
    raw = _manifest_bytes(path)
    source = str(path / MANIFEST)
    mapping = json_value(raw, source, BundleError)
    _check_schema(mapping, source)
    manifest = parse(Manifest, mapping, source, BundleError)
    digest = manifest.digest.encode()
    stands = b'"digest": "%b"' % digest
    if (
        raw.count(stands) != 1
        or _sha256(raw.replace(stands, stands.replace(digest, _ZEROS.encode()))) != manifest.digest
    ):
        raise IntegrityError(
            f"{source} was changed after it was built; copy the bundle again, or build it anew"
        )
    check(manifest, source)
    return manifest


def _manifest_bytes(path: Path) -> bytes:
    """The bytes of `manifest.json`, or a `BundleError` that says what `path` is instead."""
    if not os.path.lexists(path):
        raise BundleError(f"no bundle at {path}: there is no such folder")
    if not path.is_dir():
        beside = path.parent / MANIFEST
        hint = f"; did you mean {path.parent}?" if beside.exists() else ""
        raise BundleError(
            f"{path} is a file, and a bundle is a folder (with {MANIFEST} and the model in it): "
            f"give the folder that `edgekit build` wrote{hint}"
        )
    if not os.path.lexists(path / MANIFEST):
        raise BundleError(f"{path} is not a bundle: it holds no {MANIFEST}")
    return files.content(path, MANIFEST, _LONGEST_MANIFEST)


def _check_schema(mapping: Any, source: str) -> None:
    schema = mapping.get("schema") if isinstance(mapping, dict) else None
    if type(schema) is not int or schema < 1:
        raise BundleError(f"{source} has no bundle schema number; it is not a bundle's manifest")
    if schema > SCHEMA:
        writer = _nested(mapping, "provenance", "tools", "edgekit")
        known = isinstance(writer, str) and re.fullmatch(r"[0-9][0-9a-z.]{,30}", writer)
        wanted = f"edgekit>={writer}" if known else "edgekit"
        raise BundleError(
            f"{source} has schema {schema}, and this edgekit {__version__} reads "
            f"schemas 1 to {SCHEMA}; install a newer one: pip install --upgrade '{wanted}'"
        )


def _nested(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _verify_listing(path: Path, manifest: Manifest) -> None:
    """What is in the folder is what is listed, by name and kind."""
    listed = {entry.path for entry in manifest.files}
    found = set(files.walk(path, listed | {MANIFEST, *UNHASHED}, folders(listed)))
    if missing := sorted(listed - found):
        raise IntegrityError(
            f"{path}: {missing[0]} is missing; copy the bundle again, or build it anew"
        )


def _read_labels(path: Path, manifest: Manifest) -> tuple[str, ...]:
    source = path / manifest.labels
    text = files.content(path, manifest.labels, _LONGEST_LABELS)
    try:
        lines = text.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise BundleError(f"{source} is not UTF-8: {error}") from error
    classes = manifest.outputs[0].shape[-1]
    if len(lines) != classes:
        raise BundleError(f"{source} has {len(lines)} labels; the model has {classes} classes")
    for line in lines:
        check_line(line, str(source))
    return tuple(lines)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
