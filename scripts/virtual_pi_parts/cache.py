"""Folders that are made once, kept outside of the tree, and looked at again before each use."""

import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from edgekit.errors import StorageError

_SUMS = "sums.sha256"
_FORGET_S = 30 * 24 * 3600
"""How long a folder that nobody asks for is kept."""


def place() -> Path:
    """`$EDGEKIT_VIRTUAL_PI`, else `edgekit/virtual-pi` in the user's cache folder."""
    if given := os.environ.get("EDGEKIT_VIRTUAL_PI"):
        return Path(given).absolute()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home).absolute() / "edgekit" / "virtual-pi"


def cached(name: str, made_of: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` for these ingredients, made where it is missing or no longer as it was.

    One process makes it, others wait. It appears whole or not at all.

    Args:
        name: what it is called in the cache.
        made_of: what decides about its contents; another text is another folder.
        make: fills the empty folder that it is given.

    Raises:
        StorageError: the cache cannot be written.
    """
    key = hashlib.sha256(made_of.encode()).hexdigest()[:12]
    folder = place() / f"{name}-{key}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.utime(lock.name)
            if folder.exists():
                if not (wrong := changed(folder)):
                    return folder
                print(f"virtual_pi: {wrong} is not as it was; making it anew", file=sys.stderr)
                shutil.rmtree(folder)
            partial = folder.with_name(f"{folder.name}.part")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            make(partial)
            (partial / _SUMS).write_text(_sums(partial))
            partial.rename(folder)
            _forget(folder.parent, name)
    except OSError as error:
        raise StorageError.from_os(error, str(folder)) from error
    return folder


def _forget(caches: Path, name: str) -> None:
    """Remove the folders of this name that were last asked for long ago, for other versions."""
    for lock in caches.glob(f"{name}-*.lock"):
        if time.time() - lock.stat().st_mtime > _FORGET_S:
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink()


def changed(folder: Path) -> str:
    """What in a made folder is not as it was made; "" where all is."""
    kept = folder / _SUMS
    if not kept.exists():
        return str(folder)
    before, now = kept.read_text().splitlines(), _sums(folder).splitlines()
    different = sorted(set(before) ^ set(now))
    return str(folder / different[0].split("  ", 1)[1]) if different else ""


def _sums(folder: Path) -> str:
    """A line a file, as `sha256sum` writes it; of a link, where it leads is hashed."""
    lines = []
    for path in sorted(folder.rglob("*")):
        if path.name == _SUMS or (path.is_dir() and not path.is_symlink()):
            continue
        content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        lines.append(f"{hashlib.sha256(content).hexdigest()}  {path.relative_to(folder)}\n")
    return "".join(lines)
