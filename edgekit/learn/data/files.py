"""Where the files of a data set lie: a folder, a `.zip` or a `.zip.xz`."""

import io
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Protocol

from edgekit.device.image import SUFFIXES
from edgekit.errors import InputError

EXPECTED = "<split>/<class folder>/*.jpg"


class Files(Protocol):
    """Files by name: relative, with forward slashes. Any thread may read."""

    @property
    def path(self) -> Path:
        """The folder or archive, as errors name it."""

    def names(self, split: str) -> list[str]:
        """The images under `split`, sorted; "": those of all. Hidden ones are passed over."""

    def splits(self) -> list[str]:
        """The folders at the top, sorted."""

    def read(self, name: str) -> bytes:
        """The bytes of one. Raises InputError if they cannot be read."""


def open_files(path: Path, splits: Iterable[str]) -> Files:
    """Open a folder, a `.zip` or a `.zip.xz`; `splits` are those that are looked for.

    Raises:
        InputError: `path` is missing, of another kind, damaged, or asks for a password.
    """
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise InputError(
            f"there is no training data at {path}; name a folder, a .zip or a .zip.xz with "
            f"{EXPECTED} by --data, or in the recipe as data.path"
        )
    if not path.name.lower().endswith((".zip", ".zip.xz")):
        raise InputError(
            f"{path} is neither a folder nor a .zip or .zip.xz; give one with {EXPECTED}, or the "
            "folder of WebDataset shards (train-000000.tar ...)"
        )
    return Archive(path, splits)


class Folder:
    """A folder's files."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self, split: str) -> list[str]:
        found = []
        top = str(self.path / split)
        if not os.path.isdir(top):
            return []
        for folder, inner, files in os.walk(top, followlinks=True, onerror=_refuse):
            inner[:] = [name for name in inner if not name.startswith(".")]
            below = Path(folder).relative_to(self.path).as_posix()
            found += [name if below == "." else f"{below}/{name}" for name in files]
        return sorted(filter(is_image, found))

    def splits(self) -> list[str]:
        inner = (entry.name for entry in self.path.iterdir() if entry.is_dir())
        return sorted(name for name in inner if not name.startswith("."))

    def read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {self.path / name}: {error.strerror}") from error


class Archive:
    """A zip's files; one that is packed as `.xz`, too, is unpacked into memory.

    Where all lies in one folder that is no split (`data/train/...`), names begin below it.
    """

    def __init__(self, path: Path, splits: Iterable[str]) -> None:
        """Open it and read the list of its files; see `open_files`."""
        self.path = path
        try:
            if path.suffix.lower() == ".xz":
                with lzma.open(path) as file:
                    self._zip = zipfile.ZipFile(io.BytesIO(file.read()))
            else:
                self._zip = zipfile.ZipFile(path)
        except (OSError, EOFError, zipfile.BadZipFile, lzma.LZMAError) as error:
            raise InputError(
                f"cannot read the training data {path}: {error}; it is damaged or no zip: copy or "
                "download it again"
            ) from error
        entries = [entry for entry in self._zip.infolist() if is_image(entry.filename)]
        if any(entry.flag_bits & 1 for entry in entries):
            raise InputError(
                f"{path} asks for a password; unpack it and give the folder, or pack it without one"
            )
        tops = {entry.filename.partition("/")[0] for entry in entries}
        packed = len(tops) == 1 and tops.isdisjoint(split.partition("/")[0] for split in splits)
        self._below = f"{tops.pop()}/" if packed else ""
        self._names = sorted(entry.filename[len(self._below) :] for entry in entries)

    def names(self, split: str) -> list[str]:
        return [name for name in self._names if name.startswith(f"{split}/" if split else "")]

    def splits(self) -> list[str]:
        return sorted({name.partition("/")[0] for name in self._names if "/" in name})

    def read(self, name: str) -> bytes:
        try:
            return self._zip.read(self._below + name)
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
            raise InputError(
                f"cannot read {name} of {self.path}: {error}; the archive is damaged, or packed in "
                "a way that Python cannot unpack: download it again, or pack it anew"
            ) from error


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image, and not hidden."""
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and PurePosixPath(name).suffix.lower() in SUFFIXES


def _refuse(error: OSError) -> None:
    raise InputError(f"cannot read the folder {error.filename}: {error.strerror}") from error
