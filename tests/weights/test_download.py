"""Where a published file comes from, and what it is held to."""

import dataclasses
import hashlib
import threading
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import InputError, IntegrityError
from edgekit.published import Published
from edgekit.weights.download import alone, download, is_folder
from edgekit.weights.fetch import Limits

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ENTRY = Published(
    name="squeezenet1_1.somebody",
    architecture="squeezenet1_1",
    url="https://example.com/models/net-1234.pth",
    sha256=SHA256[:8],
    license="MIT",
    top1=0.5,
    figures="made up",
)
QUICK = Limits(timeout=5.0, tries=2, pause=0.001)


class Silent:
    def step(self, task: str, done: int, total: int) -> None:
        pass

    def line(self, text: str) -> None:
        pass


@pytest.fixture(autouse=True)
def _no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEKIT_MIRROR", raising=False)


def test_from_its_own_url_once(server: Any, tmp_path: Path) -> None:
    server.files["/models/net-1234.pth"] = CONTENT
    entry = dataclasses.replace(ENTRY, url=f"{server.url}/models/net-1234.pth")
    for _ in range(2):
        assert download(entry, tmp_path, Silent(), limits=QUICK) == tmp_path / "net-1234.pth"
    assert len(server.asked) == 1


def test_from_a_mirror_by_its_address(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/here/net-1234.pth"] = CONTENT
    monkeypatch.setenv("EDGEKIT_MIRROR", f"{server.url}/here/")
    assert download(ENTRY, tmp_path, Silent(), limits=QUICK).read_bytes() == CONTENT


def test_from_a_folder_nothing_is_copied(tmp_path: Path) -> None:
    mirror, folder = tmp_path / "mirror", tmp_path / "folder"
    mirror.mkdir()
    (mirror / "net-1234.pth").write_bytes(CONTENT)
    assert download(ENTRY, folder, Silent(), str(mirror)) == mirror / "net-1234.pth"
    assert not folder.exists()


def test_a_folder_without_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no net-1234.pth in the mirror .*from https://example"):
        download(ENTRY, tmp_path, Silent(), str(tmp_path))


def test_what_is_a_folder() -> None:
    assert is_folder("some folder")
    assert not any(map(is_folder, ("", "http://[bad", "https://example.com/models")))


def test_two_at_once_take_turns(tmp_path: Path) -> None:
    folder, turns = tmp_path / "downloads", list[str]()

    class Second(Silent):
        def line(self, text: str) -> None:
            turns.append(text)
            waits.set()

    def fetch_too() -> None:
        with alone(folder, Second()):
            turns.append("second")

    waits, second = threading.Event(), threading.Thread(target=fetch_too)
    with alone(folder, Silent()):
        second.start()
        assert waits.wait(10)
        turns.append("first")
    second.join(10)
    assert turns == [f"waiting for another edgekit that fetches into {folder}", "first", "second"]
    assert list(folder.iterdir()) == []


def test_a_mirror_is_held_to_the_digest_too(tmp_path: Path) -> None:
    (tmp_path / "net-1234.pth").write_bytes(CONTENT + b"!")
    with pytest.raises(IntegrityError, match=f"{SHA256[:8]} is published"):
        download(ENTRY, tmp_path, Silent(), str(tmp_path))
    assert (tmp_path / "net-1234.pth").exists(), "not ours to remove"


def test_where_no_digest_is_published_the_user_gives_it(tmp_path: Path) -> None:
    entry = dataclasses.replace(ENTRY, sha256="")
    (tmp_path / "net-1234.pth").write_bytes(CONTENT)
    with pytest.raises(InputError, match=r"no digest of squeezenet1_1.somebody .*--sha256"):
        download(entry, tmp_path, Silent(), str(tmp_path))
    download(entry, tmp_path, Silent(), str(tmp_path), SHA256.upper())
    with pytest.raises(IntegrityError):
        download(entry, tmp_path, Silent(), str(tmp_path), "0" * 64)


@pytest.mark.parametrize("given", ["", SHA256[:8], "g" * 64, SHA256 + "0"])
def test_a_digest_that_is_none(tmp_path: Path, given: str) -> None:
    with pytest.raises(InputError, match="64 hexadecimal digits"):
        download(ENTRY, tmp_path, Silent(), str(tmp_path), given)


def test_a_digest_that_contradicts_the_published_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="contradicts"):
        download(ENTRY, tmp_path, Silent(), str(tmp_path), "0" * 64)
