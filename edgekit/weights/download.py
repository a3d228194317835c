"""Get the file of a published checkpoint: from its authors, or from a mirror."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekit.errors import InputError, StorageError
from edgekit.published import Published
from edgekit.weights.fetch import USUAL, Limits, Watch, check, digest, fetch, matches

try:
    import fcntl
except ImportError:  # not a POSIX system: two downloads at once are not kept apart there
    fcntl = None  # type: ignore[assignment]

FULL = 64  # hexadecimal digits of a SHA-256


def download(
    entry: Published,
    folder: Path,
    watch: Watch,
    mirror: str | None = None,
    sha256: str | None = None,
    limits: Limits = USUAL,
) -> Path:
    """Get the file of `entry`, whole and held to its digest; returns where it lies.

    That is in `folder`, or in the mirror where that is a folder: nothing is copied from there.

    Args:
        entry: what is wanted.
        folder: for the file and for what has come of it so far.
        watch: is told how far it is.
        mirror: a folder, or the URL of one, that holds the file under its name; None for
            `EDGEKIT_MIRROR`, and where that is not set the authors' URL.
        sha256: the whole digest, from a source that the user trusts; wanted where none is
            published, and then the only proof.
        limits: how long and how often a server is asked.

    Raises:
        InputError: no digest to hold the file to; a mirror without the file.
        IntegrityError: the bytes are not those that were published.
        NetworkUnavailable, StorageError: as `edgekit.weights.fetch.fetch`.
    """
    wanted = _digest(entry, sha256)
    mirror = mirror or os.environ.get("EDGEKIT_MIRROR") or ""
    if is_folder(mirror):
        return _from_folder(entry, Path(mirror).expanduser(), wanted)
    url = f"{mirror.rstrip('/')}/{entry.file_name}" if mirror else entry.url
    out = folder / entry.file_name
    if out.is_file() and matches(out, wanted):
        watch.line(f"{out} is here already")
        return out
    watch.line(f"fetching {url}")
    fetch(url, out, wanted, watch, allow_http=bool(mirror), limits=limits)
    digits = "" if len(wanted) == FULL else f", whose first {len(wanted)} digits are published"
    watch.line(f"fetched {out.stat().st_size} bytes, sha256 {digest(out)}{digits}")
    return out


@contextmanager
def alone(folder: Path, watch: Watch) -> Iterator[None]:
    """Keep others from fetching into `folder`, which is made; waits for whoever does so now.

    The folder itself is locked (`flock`): nothing is left behind, however the process ends.
    """
    if fcntl is None:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise StorageError.from_os(error, folder) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            watch.line(f"waiting for another edgekit that fetches into {folder}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            watch.line(f"{folder} cannot be locked there: fetch one checkpoint at a time")
        yield
    finally:
        os.close(descriptor)


def is_folder(mirror: str) -> bool:
    """Whether a mirror is a folder; "" is no mirror."""
    return bool(mirror) and "://" not in mirror


def _digest(entry: Published, given: str | None) -> str:
    """What the file is held to: as many digits as are known."""
    if given is None:
        if not entry.sha256:
            raise InputError(
                f"no digest of {entry.name} is published, so nothing would show a damaged or "
                "replaced file: give the whole SHA-256, from a source that you trust, with --sha256"
            )
        return entry.sha256
    given = given.lower()
    if len(given) != FULL or set(given) - set("0123456789abcdef"):
        raise InputError(f"'{given}' is not a SHA-256: give {FULL} hexadecimal digits")
    if not given.startswith(entry.sha256):
        raise InputError(
            f"--sha256 {given} contradicts what is published of {entry.name}, {entry.sha256}; "
            "leave it out to use that"
        )
    return given


def _from_folder(entry: Published, mirror: Path, wanted: str) -> Path:
    path = mirror / entry.file_name
    if not path.is_file():
        raise InputError(
            f"there is no {entry.file_name} in the mirror {mirror}; put the file there, "
            f"from {entry.url}"
        )
    check(path, wanted, str(path))
    return path
