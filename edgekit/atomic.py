"""A folder that appears whole or not at all.

    out absent     .out.3f9c.partial  --rename-->    out
    out present    .out.3f9c.partial  <-exchange->   out, then the old one is removed

The new folder is written beside `out`, so the rename stays on one file system, and every byte is
on the disk (fsync) before the name appears. A process that is killed outright leaves its
`.out.*.partial` behind, never a half-made `out`; the next write to the same `out` removes what
dead processes left there: it holds a lock (`flock`) on its folder while it lives.
"""

import ctypes
import errno
import glob
import json
import os
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from edgekit.errors import InputError, StorageError
from edgekit.manifest import MANIFEST, UNHASHED, folders

try:
    import fcntl
except ImportError:  # not a POSIX system: what dead processes left is not removed there
    fcntl = None  # type: ignore[assignment]

_NOREPLACE, _EXCHANGE = 1, 2  # renameat2(2)
_AT_FDCWD = -100
_YOUNG = 60  # seconds in which a folder may exist before its owner has locked it
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


@contextmanager
def writing(out: Path, force: bool) -> Iterator[Path]:
    """Lend an empty folder beside `out`; on success it becomes `out`, on any error it is removed.

    "Any error" includes Ctrl-C and SIGTERM. Missing parents of `out` are made, and removed again
    if nothing comes of it.

    Args:
        out: the folder to make. An existing one is replaced, in one step, only with `force`, and
            only if it is a bundle (with nothing of the user's in it) or empty.
        force: whether `out` may be replaced.

    Raises:
        InputError: `out` exists and may not be replaced.
        StorageError: the disk is full, or the folder cannot be written.
    """
    out = Path(os.path.abspath(out))
    with _translated(out), _sigterm_raises():
        _check_free(out, force)
        with _parents(out.parent):
            yield from _written(out, force)


def _written(out: Path, force: bool) -> Iterator[Path]:
    _remove_dead(out)
    partial = out.parent / f".{out.name}.{secrets.token_hex(4)}.partial"
    lock = None
    try:
        partial.mkdir()
        lock = _lock(partial)
        yield partial
        _sync_tree(partial)
        _check_free(out, force)  # a build takes minutes: look again
        _put(partial, out)
        _sync(out.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # what is under this name is never wanted
        if lock is not None:
            os.close(lock)


def _check_free(out: Path, force: bool) -> None:
    if out.is_symlink():
        raise InputError(f"{out} is a link; give the folder itself with -o")
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out} is a file; give the name of a folder with -o")
    if not force:
        raise InputError(f"{out} exists; give another folder with -o, or replace it with --force")
    if foreign := _foreign(out):
        raise InputError(
            f"{out} is not replaced, even with --force: it is no bundle of edgekit's, or holds "
            f"more than one ({foreign}); give another folder with -o, or move that away"
        )


def _foreign(out: Path) -> str:
    """The first thing in `out` that no build put there, or "" for a bundle or an empty folder."""
    if not (out / MANIFEST).is_file():
        return min((path.name for path in out.iterdir()), default="")
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*"))
    try:
        manifest = json.loads((out / MANIFEST).read_bytes())
        paths = {str(entry["path"]) for entry in manifest["files"]}
        known = {*paths, *folders(paths), MANIFEST, *UNHASHED} if manifest["schema"] else set()
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return MANIFEST  # someone else's manifest.json
    return next((name for name in found if name not in known), "")


def _put(partial: Path, out: Path) -> None:
    """Give `partial` the name `out`; an old `out` is then under the name `partial`."""
    try:
        exists = out.exists()
        if not _renameat2(partial, out, _EXCHANGE if exists else _NOREPLACE):
            _put_by_steps(partial, out, exists)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        raise InputError(f"{out} appeared meanwhile; give another folder with -o") from error


def _put_by_steps(partial: Path, out: Path, exists: bool) -> None:
    """Without an exchange: a moment in which `out` does not exist, but never a half one."""
    if not exists:
        os.rename(partial, out)
        return
    aside = partial.with_name(partial.name.replace(".partial", ".old.partial"))
    os.rename(out, aside)
    try:
        os.rename(partial, out)
    except BaseException:
        os.rename(aside, out)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _renameat2(source: Path, destination: Path, flag: int) -> bool:
    """Rename by `flag`; False where the system or the file system does not know it."""
    if not sys.platform.startswith("linux"):
        return False
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return False
    names = os.fsencode(source), os.fsencode(destination)
    if function(_AT_FDCWD, names[0], _AT_FDCWD, names[1], ctypes.c_uint(flag)) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(destination))


def _sync_tree(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink() and (path.is_file() or path.is_dir()):
            _sync(path)


def _sync(path: Path) -> None:
    if os.name != "posix" and path.is_dir():
        return  # only a POSIX system opens a folder
    # Windows syncs only what is open for writing; elsewhere a file may be read-only.
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system without fsync for this kind
            raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)


def _lock(folder: Path) -> int | None:
    """Lock `folder` without waiting; the descriptor holds it. None if it is not to be had."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_dead(out: Path) -> None:
    """Remove what killed writers of `out` left: old enough to be locked, and not locked."""
    with suppress(OSError):  # not ours to read, or gone while we looked: only tidiness is lost
        for path in out.parent.glob(f"{glob.escape(f'.{out.name}.')}*.partial"):
            old = not path.is_symlink() and time.time() - path.stat().st_mtime > _YOUNG
            if old and (lock := _lock(path)) is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)


@contextmanager
def _parents(folder: Path) -> Iterator[None]:
    """Make `folder` and its missing parents; remove those again that are empty after an error."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in missing:
            with suppress(OSError):  # not empty, or never made: leave it
                path.rmdir()
        raise


@contextmanager
def _translated(out: Path) -> Iterator[None]:
    """A full disk and the like, met while writing `out`, become a `StorageError`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL or _is_ours(error.filename, out):
            raise StorageError.from_os(error, out) from error
        raise  # the caller's own: it read something else


def _is_ours(filename: str | bytes | None, out: Path) -> bool:
    """Whether an error about `filename` came from making `out`: it, a parent, or a partial."""
    if not isinstance(filename, str | bytes):
        return False
    path = Path(os.path.abspath(os.fsdecode(filename)))
    if path == out or path in out.parents:
        return True
    inside = path.parts[len(out.parent.parts) :]
    return out.parent in path.parents and inside[0].startswith(f".{out.name}.")


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Let SIGTERM end the block by `SystemExit(143)`, unless the program has its own handler."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminated(number: int, frame: FrameType | None) -> None:
    """Signal handler: unwind the stack, then exit with 128 + the signal's number."""
    raise SystemExit(128 + number)
