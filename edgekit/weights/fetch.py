"""Get one file over HTTPS and hold it to its published SHA-256. With `https.py`, all that dials.

    out absent   out.part  <-append-  server       (cut: asked for the rest, from where it stopped)
                 out.part  --sha256 right--> out
                           --sha256 wrong--> removed, IntegrityError

An interrupted run leaves `out.part`, and beside it `out.part.etag` with what the server called that
version of the file; the next run goes on from there, or starts over if the file has changed.
"""

import hashlib
import http.client
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol
from urllib.error import HTTPError
from urllib.request import OpenerDirector

from edgekit.errors import InputError, IntegrityError, StorageError
from edgekit.weights import https
from edgekit.weights.https import Broken, check_scheme, gone, translated

CHUNK = 1 << 16  # bytes


class Watch(Protocol):
    """Whoever wants to know how far it is."""

    def step(self, task: str, done: int, total: int) -> None:
        """`done` of `total` bytes are there."""

    def line(self, text: str) -> None:
        """Something worth a line in a log."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long is waited, and how often it is tried again."""

    timeout: float = 30.0
    """Seconds without a byte, or without a connection, after which an attempt is given up."""
    tries: int = 5
    """Attempts in a row that bring nothing."""
    cuts: int = 100
    """Attempts in all."""
    pause: float = 1.0
    """Seconds before the second attempt; doubled after each that brings nothing."""
    size: int = 1 << 30
    """Bytes; no published checkpoint is as large, and a server that never ends fills no disk."""


USUAL = Limits()


@dataclass(frozen=True, slots=True)
class _Part:
    """What has been received of a file: `path` holds its first bytes."""

    path: Path

    @property
    def etag_path(self) -> Path:
        return self.path.with_name(self.path.name + ".etag")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def etag(self) -> str:
        """What the server called this version of the file; "" if it gave it no name."""
        try:
            return self.etag_path.read_text(encoding="latin-1").strip()
        except OSError:
            return ""

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.etag_path.unlink(missing_ok=True)


def fetch(
    url: str,
    out: Path,
    sha256: str,
    watch: Watch,
    allow_http: bool = False,
    limits: Limits = USUAL,
) -> Path:
    """Get `url` into the file `out`; returns `out`.

    Args:
        url: `https`; `http` only for this machine itself, or with `allow_http`.
        out: where the file goes once it is whole and right; missing folders are made.
        sha256: lower-case hexadecimal, all of it or its first digits.
        watch: is told how far it is.
        allow_http: for a mirror that the user named: the digest is held to all the same.
        limits: how long and how often.

    Raises:
        NetworkUnavailable: no connection, no such file, or cut off again and again.
        IntegrityError: the bytes are not the published ones; they are removed.
        InputError: a URL of another scheme. StorageError: the disk is full, or not writable.
    """
    check_scheme(url, allow_http)
    part = _Part(out.with_name(out.name + ".part"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError.from_os(error, out) from error
    resumed = part.size() > 0
    try:
        _receive_all(url, part, watch, allow_http, limits)
        if resumed and not matches(part.path, sha256):
            watch.line("what an earlier run had received does not fit: starting over")
            part.remove()
            _receive_all(url, part, watch, allow_http, limits)
        check(part.path, sha256, url)
    except IntegrityError:
        part.remove()
        raise
    try:
        part.path.replace(out)
    except OSError as error:
        raise StorageError.from_os(error, out) from error
    part.remove()
    return out


def matches(path: Path, sha256: str) -> bool:
    """Whether the file's SHA-256 begins with the digits `sha256`."""
    return digest(path).startswith(sha256.lower())


def check(path: Path, sha256: str, source: str) -> None:
    """Hold a file to its digest; raises IntegrityError with both."""
    found = digest(path)
    if not found.startswith(sha256.lower()):
        raise IntegrityError(
            f"{source}: {path.stat().st_size} bytes with sha256 {found} came, but {sha256} is "
            "published: it was damaged on the way, or replaced; it was not used"
        )


def digest(path: Path) -> str:
    """SHA-256 of a file, lower-case hexadecimal; read a chunk at a time."""
    sha256 = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                sha256.update(chunk)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    return sha256.hexdigest()


def _receive_all(url: str, part: _Part, watch: Watch, allow_http: bool, limits: Limits) -> None:
    """Make attempts until the file is whole."""
    server = https.opener(allow_http)
    vain = 0
    for _ in range(limits.cuts):
        before = part.size()
        try:
            _receive(server, url, part, watch, limits)
            return
        except Broken as broken:
            vain = 0 if part.size() > before else vain + 1
            if vain >= limits.tries:
                raise gone(url, f"{broken} ({vain} times in a row)") from broken
            pause = min(limits.pause * 2 ** max(vain - 1, 0), 30.0)
            watch.line(f"{broken}, after {part.size()} bytes: trying again in {pause:g} s")
            time.sleep(pause)
    raise gone(url, f"it broke off {limits.cuts} times")


def _receive(server: OpenerDirector, url: str, part: _Part, watch: Watch, limits: Limits) -> None:
    """One attempt: ask for what is missing, append it.

    Raises:
        Broken: it ended early. NetworkUnavailable: there is no point in trying again.
        IntegrityError: it does not end.
    """
    start, etag = part.size(), part.etag()
    headers: dict[str, str] = {}
    if start:
        headers["Range"] = f"bytes={start}-"
        if etag:
            headers["If-Range"] = etag  # another version of the file comes whole
    with translated(url):
        try:
            response = server.open(https.request(url, headers), timeout=limits.timeout)
        except HTTPError as error:
            if error.code != 416 or not start:
                raise
            error.close()
            if error.headers.get("Content-Range") == f"bytes */{start}":
                return  # it was whole already
            part.remove()
            raise Broken("the server has a shorter file now") from error
        with response:
            if response.status == 206 and _range_start(response) != start:
                part.remove()
                raise Broken("the server sent another range than was asked for")
            start = start if response.status == 206 else 0
            _append(response, part, start, watch, limits.size)


def _append(
    response: http.client.HTTPResponse, part: _Part, start: int, watch: Watch, most: int
) -> None:
    """Write what the server sends at `start` of the part; 0 begins it anew."""
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() else 0
    etag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    done = start
    with _opened(part, start) as file:
        if start == 0:
            with _written(part.path):
                part.etag_path.write_text("" if etag.startswith("W/") else etag, "latin-1")
        while chunk := response.read1(CHUNK):
            with _written(part.path):
                file.write(chunk)
            done += len(chunk)
            if done > most:
                raise IntegrityError(
                    f"{response.url}: more than {most} bytes came, and no published checkpoint is "
                    "as large: it was replaced; it was not used"
                )
            watch.step("downloading", done, total or done)
        with _written(part.path):
            file.flush()
            os.fsync(file.fileno())
    if total and done < total:
        raise Broken("the connection was cut")


@contextmanager
def _opened(part: _Part, start: int) -> Iterator[IO[bytes]]:
    """The part, open for writing at `start`, to be closed whatever happens: what came stays."""
    with _written(part.path):
        file = part.path.open("r+b" if start else "wb")
    try:
        file.seek(start)
        yield file
    finally:
        with _written(part.path):
            file.close()


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """A disk's error, told from a network's: both are `OSError`."""
    try:
        yield
    except OSError as error:
        raise StorageError.from_os(error, path) from error


def _range_start(response: http.client.HTTPResponse) -> int:
    """The first byte of a `Content-Range: bytes FIRST-LAST/TOTAL`; -1 if it says something else."""
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    first = rest.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdecimal() else -1
