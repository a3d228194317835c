"""`edgekit weights`: from the command line to a checkpoint that `build` finds by its name."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit import checkpoint, published
from edgekit.published import Catalogue, Published

torch = pytest.importorskip("torch")

Edgekit = Callable[..., Any]
NAME = "squeezenet1_1.somebody-v1"


@pytest.fixture
def pth(tmp_path: Path) -> Path:
    """A checkpoint of three classes, as a training program writes it."""
    from edgekit import plugins

    torch.manual_seed(0)
    state = plugins.architecture("squeezenet1_1")(num_classes=3).state_dict()
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "net.pth.tar")
    return tmp_path / "net.pth.tar"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.delenv("EDGEKIT_MIRROR", raising=False)
    return tmp_path / "weights"


@pytest.fixture
def entry(pth: Path, server: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    """`pth`, published by a server on loopback."""
    server.files["/net.pth.tar"] = pth.read_bytes()
    found = Published(
        name=NAME,
        architecture="squeezenet1_1",
        url=f"{server.url}/net.pth.tar",
        sha256=hashlib.sha256(pth.read_bytes()).hexdigest()[:8],
        license="MIT",
        top1=0.75,
        figures="made up",
        labels=("cat", "dog", "cow"),
    )
    monkeypatch.setattr(published, "catalogue", lambda: Catalogue((found,)))
    return found


def test_import_makes_a_checkpoint_with_a_card(
    edgekit: Edgekit, pth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image.toml").write_text("height = 64\nwidth = 64\n")
    (tmp_path / "labels.txt").write_text("cat\ndog\ncow\n")
    end = edgekit(
        *("weights", "import", pth, "--architecture", "squeezenet1_1"),
        *("--contract", "image.toml", "--labels", "labels.txt"),
        *("--license", "MIT", "--trained-on", "three pictures", "--argument", "dropout=0.1"),
    )
    assert (end.code, end.out) == (0, "net.safetensors\n")
    assert "took the weights under 'state_dict'; left out: 'epoch'" in end.err
    assert "squeezenet1_1(dropout=0.1, num_classes=3): 52 tensors, 3 classes" in end.err
    card = checkpoint.read(tmp_path / "net.safetensors").card
    assert card is not None
    assert (card.image.height, card.labels) == (64, ("cat", "dog", "cow"))
    assert card.trained_on.startswith("three pictures; imported from net.pth.tar")
    again = edgekit("weights", "import", pth, "-a", "squeezenet1_1")
    assert (again.code, again.out) == (2, "")
    assert "--force" in again.err


def test_import_refuses_what_is_no_state_dict(edgekit: Edgekit, tmp_path: Path) -> None:
    torch.save(torch.nn.ReLU(), tmp_path / "net.pth")
    end = edgekit("weights", "import", tmp_path / "net.pth", "-a", "squeezenet1_1")
    assert end.code == 2
    assert "is refused" in end.err


def test_list_says_what_is_published(edgekit: Edgekit, entry: Published) -> None:
    end = edgekit("weights", "list")
    assert end.code == 0
    assert end.out.splitlines()[1].split() == [
        *(NAME, "75.00", "224x224", "MIT", f"{entry.sha256}...")
    ]
    (found,) = json.loads(edgekit("weights", "list", "--json").out)
    assert found["name"] == NAME
    assert {"architecture", "arguments", "url", "sha256", "license", "top1", "image"} <= set(found)


def test_pull_fetches_checks_and_imports(
    edgekit: Edgekit, entry: Published, server: Any, folder: Path
) -> None:
    server.cuts = [1_000_000]
    end = edgekit("weights", "pull", NAME)
    out = folder / f"{NAME}.safetensors"
    assert (end.code, end.out) == (0, f"{out}\n")
    assert "the connection was cut, after 1000000 bytes" in end.err
    assert "whose first 8 digits are published" in end.err
    card = checkpoint.read(out).card
    assert card is not None
    assert (card.accuracy, card.accuracy_images, card.license) == (0.75, 50_000, "MIT")
    assert card.labels == ("cat", "dog", "cow")
    assert list((folder / "downloads").iterdir()) == []

    assert NAME in checkpoint.names()
    assert checkpoint.resolve(NAME) == out
    assert edgekit("weights", "list").out.splitlines()[1].endswith("yes")
    assert edgekit("inspect", NAME).code == 0
    asked = len(server.asked)
    assert edgekit("weights", "pull", NAME).out == f"{out}\n"
    assert len(server.asked) == asked, "what is here is not fetched again"


def test_pull_from_a_folder(edgekit: Edgekit, entry: Published, pth: Path, tmp_path: Path) -> None:
    out = tmp_path / "chosen.safetensors"
    end = edgekit("weights", "pull", NAME, "--mirror", pth.parent, "-o", out)
    assert (end.code, end.out) == (0, f"{out}\n")
    assert pth.exists()


def test_pull_replaces_nothing_of_the_users(
    edgekit: Edgekit, entry: Published, server: Any, tmp_path: Path
) -> None:
    for name in ("mine.safetensors", "mine.json"):
        (tmp_path / name).write_text("mine")
        end = edgekit("weights", "pull", NAME, "-o", tmp_path / "mine.safetensors")
        assert (end.code, end.out) == (2, "")
        assert f"{name} exists" in end.err
        (tmp_path / name).unlink()
    assert server.asked == []


def test_pull_mends_a_damaged_checkpoint(edgekit: Edgekit, entry: Published, folder: Path) -> None:
    out = folder / f"{NAME}.safetensors"
    folder.mkdir()
    out.write_bytes(b"damaged")
    end = edgekit("weights", "pull", NAME)
    assert (end.code, end.out) == (0, f"{out}\n")
    assert checkpoint.is_from(out, entry)


def test_pull_refuses_wrong_bytes(
    edgekit: Edgekit, entry: Published, server: Any, folder: Path
) -> None:
    server.files["/net.pth.tar"] += b"!"
    end = edgekit("weights", "pull", NAME)
    assert (end.code, end.out) == (1, "")
    assert "is published" in end.err
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_pull_without_the_file_ends_with_69(
    edgekit: Edgekit, entry: Published, server: Any
) -> None:
    server.files.clear()
    end = edgekit("weights", "pull", NAME)
    assert end.code == 69
    assert end.err.count("\n") == 2
    assert "404" in end.err


def test_pull_of_an_unknown_name(edgekit: Edgekit, entry: Published) -> None:
    end = edgekit("weights", "pull", "squeezenet1_1.somebody")
    assert end.code == 2
    assert f"did you mean '{NAME}'" in end.err


def test_pull_without_torch_keeps_the_file_and_names_the_extra(
    edgekit: Edgekit, entry: Published, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    end = edgekit("weights", "pull", NAME)
    assert end.code == 3
    assert "edgekit[host]" in end.err
    assert (folder / "downloads" / "net.pth.tar").exists()


def test_listing_and_fetching_load_no_torch() -> None:
    code = (
        "import sys, edgekit.weights.download\nfrom edgekit.cli.main import main\n"
        "main(['weights', 'list'])\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
