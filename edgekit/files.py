"""Read a folder that is not trusted: regular files only, no link followed, no device waited for."""

import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekit.errors import BundleError, IntegrityError

CHUNK = 1 << 18  # bytes

# NOFOLLOW refuses a link and NONBLOCK does not wait for the other end of a FIFO: both are for what
# is put there after the folder was listed.
_FLAGS = os.O_RDONLY | sum(
    getattr(os, flag, 0) for flag in ("O_BINARY", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK")
)


def walk(
    root: Path, files: Collection[str] | None = None, folders: Collection[str] = ()
) -> Iterator[str]:
    """Names of the regular files under `root`, `/`-separated.

    Args:
        root: a folder.
        files: what may be there; None allows any name.
        folders: the folders that may be there, if `files` is given.

    Raises:
        IntegrityError: a link, a device, or something that may not be there; names the first one.
        BundleError: a folder cannot be read.
    """
    pending = [""]
    while pending:
        prefix = pending.pop()
        for entry in _entries(root, prefix):
            name = prefix + entry.name
            if entry.is_symlink():
                raise IntegrityError(f"{root}: {name!r} is a link; a bundle holds plain files only")
            folder = entry.is_dir(follow_symlinks=False)
            if files is not None and name not in (folders if folder else files):
                raise IntegrityError(
                    f"{root}: {name!r} is not listed in the manifest; move it out of the bundle"
                )
            if folder:
                pending.append(f"{name}/")
            elif entry.is_file(follow_symlinks=False):
                yield name
            else:
                raise IntegrityError(f"{root}: {name!r} is not a regular file")


@contextmanager
def opened(root: Path, name: str) -> Iterator[int]:
    """A descriptor of the regular file `name` under `root`, open for reading.

    Raises:
        IntegrityError: it is a link, or not a regular file.
        BundleError: it cannot be read.
    """
    try:
        descriptor = os.open(root / name, _FLAGS)
    except OSError as error:
        if os.path.islink(root / name):
            raise IntegrityError(f"{root}: {name!r} is a link") from error
        raise BundleError(f"cannot read {root / name}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise IntegrityError(f"{root}: {name!r} is not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def content(root: Path, name: str, limit: int) -> bytes:
    """All bytes of `name`, which has no more than `limit` of them."""
    with opened(root, name) as descriptor:
        size = os.fstat(descriptor).st_size
        if size > limit:
            raise BundleError(f"{root / name} has {size} bytes, which none of ours has")
        return b"".join(_chunks(root / name, descriptor))


def digest(root: Path, name: str) -> tuple[int, str]:
    """Size in bytes and sha256 (lower-case hex) of `name`, read once, a chunk at a time."""
    size, sha256 = 0, hashlib.sha256()
    memory = memoryview(bytearray(CHUNK))  # one for the whole file: fresh ones cost page faults
    with opened(root, name) as descriptor, open(descriptor, "rb", 0, closefd=False) as file:
        try:
            while count := file.readinto(memory):
                size += count
                sha256.update(memory[:count])
        except OSError as error:
            raise BundleError(f"cannot read {root / name}: {error.strerror}") from error
    return size, sha256.hexdigest()


def size(path: Path) -> int:
    """Bytes of a file, or of all the files in a folder: a model may be either."""
    if path.is_dir():
        return sum((path / name).stat().st_size for name in walk(path))
    return path.stat().st_size


def _chunks(path: Path, descriptor: int) -> Iterator[bytes]:
    try:
        while chunk := os.read(descriptor, CHUNK):
            yield chunk
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}") from error


def _entries(root: Path, prefix: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(root / prefix) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise BundleError(f"cannot read {root / prefix}: {error.strerror}") from error
