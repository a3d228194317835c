"""The index of one shard: where in the tar file each sample lies; made once, and kept.

A sample is what has one name up to its first dot, as in the webdataset package: `0001.jpg` and
`0001.cls`. Beside the image it has its label, as `.cls` (a number or a class's name) or as `.json`
with `label`, `cls` or `class`.
"""

import hashlib
import io
import json
import os
import re
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import numpy as np

from edgekit.checkpoint import replace_files
from edgekit.device.image import SUFFIXES
from edgekit.errors import InputError, StorageError

_NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")  # webdataset.tariterators.base_plus_ext
_KEYS = ("label", "cls", "class")
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Index:
    """One shard's samples, in their order."""

    digest: str
    """SHA-256 of the file; lower-case hexadecimal."""
    offsets: np.ndarray
    """(N,) int64: where each image begins, in bytes."""
    sizes: np.ndarray
    """(N,) int64: bytes of each image."""
    labels: np.ndarray
    """(N,) int64: into `classes`."""
    classes: np.ndarray
    """(K,) str, sorted: what the labels say; numbers, or classes' names."""


def folder() -> Path:
    """Where indices are kept: `edgekit/shards` in the user's cache (`XDG_CACHE_HOME`)."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "edgekit" / "shards"


def index(shard: Path) -> Index:
    """The shard's index: the kept one if the file has its size and time, else made and kept.

    Raises:
        InputError: the shard is missing, damaged or compressed, or has a sample without an image or
            without a label.
    """
    try:
        state = shard.stat()
        stamp = np.array([_FORMAT, state.st_size, state.st_mtime_ns], np.int64)
        kept = folder() / f"{hashlib.sha256(str(shard.resolve()).encode()).hexdigest()[:32]}.npz"
        found = _kept(kept, stamp)
        return found or _keep(kept, stamp, _scan(shard))
    except OSError as error:
        raise InputError(f"cannot read the shard {shard}: {error.strerror or error}") from error


def _kept(path: Path, stamp: np.ndarray) -> Index | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if not np.array_equal(stored["stamp"], stamp):
                return None
            names = ("offsets", "sizes", "labels", "classes")
            return Index(str(stored["digest"]), *(stored[name] for name in names))
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None  # not there, or damaged: it is made again


def _keep(path: Path, stamp: np.ndarray, made: Index) -> Index:
    memory = io.BytesIO()
    np.savez(
        memory,
        stamp=stamp,
        digest=np.array(made.digest),
        offsets=made.offsets,
        sizes=made.sizes,
        labels=made.labels,
        classes=made.classes,
    )
    try:
        replace_files({path: memory.getvalue()})
    except StorageError:
        return made  # nowhere to keep it (a read-only home): it is made again next time
    return made


def _scan(shard: Path) -> Index:
    samples: list[tuple[int, int, str]] = []
    strange: InputError | None = None
    try:
        with open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for key, members in groupby(_members(tar), lambda member: member[0]):
                parts = {suffix: entry for _, suffix, entry in members}
                try:
                    samples.append(_sample(tar, parts, f"{shard}: sample '{key}'"))
                except InputError as error:
                    strange = strange or error  # damage, further down, would explain it
            digest = _digest(file, tar.offset, shard)
    except tarfile.TarError as error:
        raise InputError(
            f"the shard {shard} is damaged, or no tar file: {error}; copy it again (a .tar.gz must "
            "be unpacked with gunzip: its images are compressed already)"
        ) from error
    if strange is not None:
        raise strange
    offsets, sizes, labels = zip(*samples, strict=True) if samples else ((), (), ())
    classes, of = np.unique(np.array(labels, np.str_), return_inverse=True)
    return Index(
        digest,
        np.array(offsets, np.int64),
        np.array(sizes, np.int64),
        of.astype(np.int64),
        classes,
    )


def _digest(file: BinaryIO, end: int, shard: Path) -> str:
    """SHA-256 of the file, if it ends as an archive does at byte `end`."""
    file.seek(end)
    if file.read(512) != bytes(512):  # tarfile takes what it cannot read for the end
        raise InputError(
            f"the shard {shard} is damaged or cut short: at byte {end:,} there is neither a file "
            "nor the archive's end; copy it again"
        )
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """Key, suffix and place of each file that belongs to a sample."""
    while (entry := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # it would keep them all
        match = _NAME.match(entry.name)
        hidden = os.path.basename(entry.name).startswith((".", "__"))
        if entry.isfile() and match and not hidden:
            yield match[1], match[2].lower(), entry


def _sample(
    tar: tarfile.TarFile, parts: dict[str, tarfile.TarInfo], sample: str
) -> tuple[int, int, str]:
    """Offset and size of its image, and its label."""
    found = [suffix for suffix in parts if f".{suffix}" in SUFFIXES]
    if len(found) != 1:
        raise InputError(
            f"{sample} has {len(found)} images among its files ({', '.join(parts)}); each sample "
            "needs one, as .jpg or .png"
        )
    image = parts[found[0]]
    return image.offset_data, image.size, _label(tar, parts, sample)


def _label(tar: tarfile.TarFile, parts: dict[str, tarfile.TarInfo], sample: str) -> str:
    text, where = None, ""
    if "cls" in parts:
        text, where = _read(tar, parts["cls"]), "its .cls"
    elif "json" in parts:
        where = f"its .json under {', '.join(map(repr, _KEYS))}"
        try:
            content = json.loads(_read(tar, parts["json"]) or "null")
        except ValueError as error:
            raise InputError(f"{sample}: its .json cannot be read: {error}") from error
        if isinstance(content, dict):
            given = (content[key] for key in _KEYS if key in content)
            text = next((str(x).strip() for x in given if type(x) in (int, str)), None)
    if not text:
        said = f"nothing in {where}" if where else f"no label among its files ({', '.join(parts)})"
        raise InputError(
            f"{sample} has {said}; each sample needs a .cls with a class's number or name, or a "
            ".json with a 'label'"
        )
    return text


def _read(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> str:
    file = tar.extractfile(entry)
    assert file is not None  # it is a plain file
    return file.read().decode("utf-8", "replace").strip()
