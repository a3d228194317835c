"""Fetching: whatever the server does, the file is right in the end, or there is none."""

import ast
import dataclasses
import errno
import hashlib
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import InputError, IntegrityError, NetworkUnavailable, StorageError
from edgekit.weights.fetch import Limits, fetch

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = Limits(timeout=5.0, tries=3, cuts=20, pause=0.001)


class Log:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.lines: list[str] = []

    def step(self, task: str, done: int, total: int) -> None:
        self.steps.append((done, total))

    def line(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "net.pth"


def left(out: Path) -> set[str]:
    return {path.name for path in out.parent.iterdir()}


def get(server: Any, out: Path, log: Log, sha256: str = SHA256, limits: Limits = QUICK) -> Path:
    server.files.setdefault("/net.pth", CONTENT)
    return fetch(f"{server.url}/net.pth", out, sha256, log, limits=limits)


@pytest.mark.parametrize("digits", [64, 8])
def test_a_file_is_fetched_and_held_to_its_digest(
    server: Any, out: Path, log: Log, digits: int
) -> None:
    assert get(server, out, log, SHA256[:digits]) == out
    assert out.read_bytes() == CONTENT
    assert left(out) == {"net.pth"}
    assert log.steps[-1] == (len(CONTENT), len(CONTENT))


def test_a_cut_connection_is_gone_on_with(server: Any, out: Path, log: Log) -> None:
    server.cuts = [100_000, 1000, 0, 50_000]
    get(server, out, log)
    assert out.read_bytes() == CONTENT
    assert [asked.partition(" ")[2] for asked in server.asked] == [
        "",
        "bytes=100000-",
        "bytes=101000-",
        "bytes=101000-",
        "bytes=151000-",
    ]
    assert log.lines[0].startswith("the connection was cut, after 100000 bytes: trying again")


def test_it_gives_up_when_nothing_comes(server: Any, out: Path, log: Log) -> None:
    server.cuts = [1000, 0, 0, 0]
    with pytest.raises(NetworkUnavailable, match=r"3 times in a row.*--mirror"):
        get(server, out, log)
    assert (out.parent / "net.pth.part").read_bytes() == CONTENT[:1000]


def test_it_gives_up_on_endless_cuts(server: Any, out: Path, log: Log) -> None:
    server.cuts = [10] * 100
    with pytest.raises(NetworkUnavailable, match="broke off 20 times"):
        get(server, out, log)
    assert len(server.asked) == 20


def test_a_later_run_goes_on_with_what_an_earlier_one_left(
    server: Any, out: Path, log: Log
) -> None:
    server.cuts = [1000, 0, 0, 0]
    with pytest.raises(NetworkUnavailable):
        get(server, out, log)
    server.asked.clear()
    get(server, out, log)
    assert server.asked == ["/net.pth bytes=1000-"]
    assert out.read_bytes() == CONTENT
    assert left(out) == {"net.pth"}


def test_a_part_that_is_whole_already_is_taken(server: Any, out: Path, log: Log) -> None:
    out.parent.mkdir()
    (out.parent / "net.pth.part").write_bytes(CONTENT)
    get(server, out, log)
    assert out.read_bytes() == CONTENT


@pytest.mark.parametrize("kept", [CONTENT + b"more", b"something else" * 10])
def test_a_part_of_something_else_is_started_over(
    server: Any, out: Path, log: Log, kept: bytes
) -> None:
    out.parent.mkdir()
    (out.parent / "net.pth.part").write_bytes(kept)
    get(server, out, log)
    assert out.read_bytes() == CONTENT


def test_a_server_without_ranges_is_asked_for_all_again(server: Any, out: Path, log: Log) -> None:
    server.ranges = False
    server.cuts = [1000, 200_000]
    get(server, out, log)
    assert out.read_bytes() == CONTENT
    assert len(server.asked) == 3


@pytest.mark.parametrize("etags", [True, False])
def test_a_file_that_changed_between_runs_comes_whole(
    server: Any, out: Path, log: Log, etags: bool
) -> None:
    server.etags = etags
    server.files["/net.pth"] = CONTENT[::-1]
    server.cuts = [1000, 0, 0, 0]
    with pytest.raises(NetworkUnavailable):
        get(server, out, log)
    server.files["/net.pth"] = CONTENT
    get(server, out, log)
    assert out.read_bytes() == CONTENT
    assert ("starting over" in " ".join(log.lines)) is not etags, "an ETag saves the second way"


def test_a_wrong_digest_leaves_nothing(server: Any, out: Path, log: Log) -> None:
    with pytest.raises(IntegrityError, match=f"{SHA256} came, but 00000000 is published"):
        get(server, out, log, "0" * 8)
    assert left(out) == set()


def test_a_file_without_end_leaves_nothing(server: Any, out: Path, log: Log) -> None:
    with pytest.raises(IntegrityError, match="more than 100000 bytes came"):
        get(server, out, log, limits=dataclasses.replace(QUICK, size=100_000))
    assert left(out) == set()


def test_no_such_file_is_not_asked_for_twice(server: Any, out: Path, log: Log) -> None:
    with pytest.raises(NetworkUnavailable, match=r"absent.pth: the server answered 404 Not Found"):
        fetch(f"{server.url}/absent.pth", out, SHA256, log, limits=QUICK)
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again(server: Any, out: Path, log: Log) -> None:
    server.answers = [503, 429]
    get(server, out, log)
    assert out.read_bytes() == CONTENT
    assert len(log.lines) == 2


def test_a_stalled_server_is_given_up(server: Any, out: Path, log: Log) -> None:
    server.stall = 0.3
    with pytest.raises(NetworkUnavailable, match=r"sent nothing for too long \(2 times"):
        get(server, out, log, limits=Limits(timeout=0.05, tries=2, pause=0.001))


def test_a_server_that_is_not_there(out: Path, log: Log) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # but nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/net.pth"
        with pytest.raises(NetworkUnavailable, match="refused"):
            fetch(url, out, SHA256, log, limits=QUICK)


def test_what_is_no_http_at_all(out: Path, log: Log) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            for _ in range(QUICK.tries):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"nonsense\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/net.pth"
        with pytest.raises(NetworkUnavailable):
            fetch(url, out, SHA256, log, limits=QUICK)
        thread.join()


def test_a_redirect_is_followed(server: Any, out: Path, log: Log) -> None:
    server.redirects["/old.pth"] = "/net.pth"
    server.files["/net.pth"] = CONTENT
    fetch(f"{server.url}/old.pth", out, SHA256, log, limits=QUICK)
    assert out.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("file:///etc/passwd", "file:///etc/passwd"),
        ("ftp://127.0.0.1/net.pth", "ftp://127.0.0.1/net.pth"),
        ("http://example.com/net.pth", "http://example.com/net.pth"),
        ("https://[x/net.pth", "Invalid IPv6 URL"),
    ],
)
def test_a_redirect_away_from_https_is_not(
    server: Any, out: Path, log: Log, target: str, reason: str
) -> None:
    server.redirects["/net.pth"] = target
    with pytest.raises(NetworkUnavailable, match=reason):
        get(server, out, log)
    assert len(server.asked) == 1
    assert left(out) == set()


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com/a.pth", "file:///etc/passwd", "ftp://x/a", "a.pth", "https:///a"),
        *("https://[x/a", "https://x:port/a", "https://x/a b", "https://x/\u00e4", "https://x/\n"),
    ],
)
def test_only_https_is_fetched(out: Path, log: Log, url: str) -> None:
    with pytest.raises(InputError, match="only https"):
        fetch(url, out, SHA256, log)
    assert not out.parent.exists()


def test_a_full_disk_is_told_from_the_network(
    server: Any, out: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match="the disk is full"):
        get(server, out, log)
    assert len(server.asked) == 1


def test_a_folder_that_cannot_be_made(server: Any, tmp_path: Path, log: Log) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot write"):
        get(server, tmp_path / "file" / "net.pth", log)


def test_ctrl_c_keeps_what_came(server: Any, out: Path, log: Log) -> None:
    class Impatient(Log):
        def step(self, task: str, done: int, total: int) -> None:
            if done > 100_000:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(server, out, Impatient())
    kept = (out.parent / "net.pth.part").read_bytes()
    assert len(kept) > 100_000
    assert CONTENT.startswith(kept)
    get(server, out, log)
    assert out.read_bytes() == CONTENT


def test_nothing_else_in_edgekit_can_reach_the_network(root: Path) -> None:
    dialling = {"http.client", "urllib.request", "urllib.error", "ftplib", "requests", "httpx"}
    found = set()
    for path in sorted((root / "edgekit").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {path.name for name in names if name in dialling}
    assert found == {"fetch.py", "https.py"}
