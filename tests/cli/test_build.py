"""`edgekit build`: what a user gets wrong is one line and the right exit code; what works, a path.

Mistakes are made with the carried checkpoint, which they must stop before it is lowered; what is
built is a network of two layers.
"""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgekit import bundle, checkpoint, plugins

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

Edgekit = Callable[..., Any]

NETWORK = """
import torch
from torch import nn

def tiny():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))

def planes(): return nn.Conv2d(3, 4, 3)
def fails(): raise RuntimeError("two\\nlines")
def flat(): return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

class Sorted(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))

def branches(): return Sorted()
"""
CONTRACT = "height = 16\nwidth = 16\ncrop_fraction = 1.0\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, where they are, with a package `mine_<n>` and an image contract."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / f"{package(folder)}.py").write_text(NETWORK)
    (folder / "contract.toml").write_text(CONTRACT)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    return folder


def package(folder: Path) -> str:
    """A name that no other test has imported."""
    return f"mine_{abs(hash(folder))}"


def pictures(folder: Path, count: int) -> Path:
    folder.mkdir()
    for n in range(count):
        pixels = np.random.default_rng(n).integers(0, 256, (20, 24, 3), np.uint8)
        assert cv2.imwrite(str(folder / f"{n:03}.png"), pixels)
    return folder


def refused(end: Any, code: int, *says: str) -> None:
    """Nothing on stdout; the last line of stderr is the one error, and no traceback is there."""
    assert end.code == code, end.err
    assert end.out == ""
    lines = end.err.splitlines()
    assert sum(line.startswith("error: ") for line in lines) == 1
    assert lines[-1].startswith("error: ")
    assert "Traceback" not in end.err
    assert "a bug in edgekit" not in end.err
    for text in says:
        assert text in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--target", "jetsn"], ["no target 'jetsn'", "did you mean 'jetson'", "raspberry-pi"]),
        (["--precision", "int-8"], ["no precision 'int-8'", "did you mean 'int8'"]),
        (["--backend", "onx"], ["'onx'", "did you mean 'onnx'"]),
        (["mobilnet_v2"], ["'mobilnet_v2'", "did you mean 'mobilenet_v2'"]),
        (["squeezenet1_1"], ["without weights", "--weights"]),
        (["--weights", "absent.safetensors"], ["absent.safetensors"]),
        (["absent.safetensors"], ["absent.safetensors"]),
        (["no_such.module:build"], ["no_such.module:build", "package.module:function"]),
        (["--calibration", "absent"], ["absent is not a folder"]),
        (["--labels", "absent.txt"], ["cannot read labels from absent.txt"]),
        (["--contract", "absent.toml"], ["absent.toml"]),
        (["one", "two"], ["two", "see edgekit build --help"]),
        (["--presicion", "int8"], ["--presicion", "see edgekit build --help"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and len(value) < 3 else "",
)
def test_what_is_not_there_is_one_line(
    edgekit: Edgekit, here: Path, arguments: list[str], says: list[str]
) -> None:
    refused(edgekit("build", *arguments, "-o", "out"), 2, *says)
    assert not (here / "out").exists()


@pytest.mark.parametrize("cut", [0, 3, 8, 100, 200_000, -1])
def test_damaged_weights(edgekit: Edgekit, here: Path, cut: int) -> None:
    content = checkpoint.default().read_bytes()[:cut]
    (here / "w.safetensors").write_bytes(content)
    end = edgekit("build", "mobilenet_v2", "--weights", "w.safetensors", "-o", "out")
    refused(end, 2, "w.safetensors", "damaged")


def test_weights_that_are_no_safetensors_at_all(edgekit: Edgekit, here: Path) -> None:
    (here / "w.safetensors").write_bytes(b"PK\x03\x04 a pickle in a zip" * 50)
    end = edgekit("build", "mobilenet_v2", "--weights", "w.safetensors", "-o", "out")
    refused(end, 2, "w.safetensors")


def test_weights_and_a_card_of_other_weights(edgekit: Edgekit, here: Path) -> None:
    stored = bytearray(checkpoint.default().read_bytes())
    stored[-1] ^= 1
    (here / "w.safetensors").write_bytes(stored)
    card = checkpoint.default().with_suffix(".json")
    (here / "w.json").write_bytes(card.read_bytes())
    refused(edgekit("build", "w.safetensors", "-o", "out"), 2, "w.safetensors", "sha256")


def test_weights_of_another_shape_name_the_first_tensor(edgekit: Edgekit, here: Path) -> None:
    from safetensors.numpy import save_file

    tensors = dict(checkpoint.read(checkpoint.default()).tensors)
    name = next(name for name in sorted(tensors) if name.startswith("conv1.0"))
    tensors[name] = np.ascontiguousarray(tensors[name][:-1])
    save_file(tensors, here / "w.safetensors")
    end = edgekit("build", "shufflenet_v2_x0_5", "--weights", "w.safetensors", "-o", "out")
    refused(end, 2, "w.safetensors", "conv1.0")


def test_a_card_that_is_not_one(edgekit: Edgekit, here: Path) -> None:
    (here / "w.safetensors").write_bytes(checkpoint.default().read_bytes())
    (here / "w.json").write_text('{"schema": 1, "architecure": "x"}')
    refused(edgekit("build", "w.safetensors", "-o", "out"), 2, "w.json")


def test_a_contract_with_an_unknown_key(edgekit: Edgekit, here: Path) -> None:
    (here / "contract.toml").write_text("height = 16\nwidth = 16\nwidht = 16\n")
    end = edgekit("build", f"{package(here)}:tiny", "--contract", "contract.toml", "-o", "out")
    refused(end, 2, "contract.toml", "unknown key 'widht'", "width")


def test_five_images_are_too_few_for_int8(edgekit: Edgekit, here: Path) -> None:
    pictures(here / "few", 5)
    end = edgekit("build", "--calibration", "few", "--observer", "minmax", "-o", "out")
    refused(end, 2, "at least 32 images", "few gives 5", "fp16")
    assert not (here / "out").exists()


def test_a_broken_image_is_named(edgekit: Edgekit, here: Path) -> None:
    folder = pictures(here / "many", 33)
    (folder / "007.png").write_bytes((folder / "007.png").read_bytes()[:30])
    refused(edgekit("build", "--calibration", "many", "-o", "out"), 2, "007.png")


def test_a_folder_without_images(edgekit: Edgekit, here: Path) -> None:
    (here / "none").mkdir()
    refused(edgekit("build", "--calibration", "none", "-o", "out"), 2, "none")


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("planes", "an image classifier gives one tensor, (1, classes)"),
        ("fails", "raised RuntimeError: two"),
        ("branches", "cannot export this network"),
    ],
)
def test_a_network_that_does_not_fit_is_one_line(
    edgekit: Edgekit, here: Path, function: str, says: str
) -> None:
    end = edgekit(
        *("build", f"{package(here)}:{function}", "--contract", "contract.toml"),
        *("--precision", "fp32", "-o", "out"),
    )
    refused(end, 2, says)
    assert not (here / "out").exists()


def test_labels_of_another_number(edgekit: Edgekit, here: Path) -> None:
    (here / "labels.txt").write_text("a\nb\n")
    end = edgekit("build", "--labels", "labels.txt", "-o", "out")
    refused(end, 2, "labels.txt has 2 labels; the network has 50 classes")


def test_a_folder_that_cannot_be_written(edgekit: Edgekit, here: Path) -> None:
    (here / "file").write_text("in the way")
    refused(edgekit("build", "-o", "file/out"), 2, "file")
    assert (here / "file").read_text() == "in the way"


def test_a_file_in_the_place_of_the_bundle(edgekit: Edgekit, here: Path) -> None:
    (here / "out").write_text("mine")
    for force in ([], ["--force"]):
        refused(edgekit("build", "-o", "out", *force), 2, "out")
        assert (here / "out").read_text() == "mine"


def test_force_never_replaces_what_is_no_bundle(edgekit: Edgekit, here: Path) -> None:
    (here / "out").mkdir()
    (here / "out" / "thesis.txt").write_text("ten years")
    refused(edgekit("build", "-o", "out", "--force"), 2, "out")
    assert (here / "out" / "thesis.txt").read_text() == "ten years"


def test_a_full_disk(edgekit: Edgekit, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compile(*given: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(plugins, "compiler", lambda name: compile)
    end = edgekit(
        *("build", f"{package(here)}:tiny", "--contract", "contract.toml"),
        *("--precision", "fp32", "-o", "out"),
    )
    refused(end, 2, "the disk is full")
    assert sorted(path.name for path in here.iterdir() if "out" in path.name) == []


def test_a_refused_build_ends_with_1(
    edgekit: Edgekit, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgekit.lower.gate import parity

    monkeypatch.setitem(parity.LOWERED, "fp32", (0.0, 199.0, 1.0))
    end = edgekit(
        *("build", f"{package(here)}:tiny", "--contract", "contract.toml"),
        *("--precision", "fp32", "-o", "out"),
    )
    refused(end, 1, "parity gate", "'exported -> lowered'", "no bundle was written")
    assert not (here / "out").exists()


def test_a_build(edgekit: Edgekit, here: Path) -> None:
    (here / "labels.txt").write_text("north\neast\nsouth\nwest\n")
    arguments = (
        *("build", f"{package(here)}:tiny", "--contract", "contract.toml"),
        *("--labels", "labels.txt", "--precision", "fp32", "-o", "out"),
    )
    end = edgekit(*arguments)
    assert (end.code, end.out) == (0, "out\n")
    assert "exported -> lowered: SNR" in end.err
    assert "lowered -> packaged: SNR 200.0 dB" in end.err
    assert "Warning" not in end.err
    made = bundle.read(here / "out")
    assert made.labels == ("north", "east", "south", "west")
    assert (made.manifest.image.height, made.manifest.image.crop_fraction) == (16, 1.0)
    assert made.manifest.provenance.architecture == "tiny"
    assert edgekit("verify", "out").code == 0

    again = edgekit(*arguments)
    refused(again, 2, "--force")
    (here / "out" / "README.md").write_text("damaged")
    forced = edgekit(*arguments, "--force")
    assert (forced.code, forced.out) == (0, "out\n")
    assert bundle.read(here / "out").manifest == made.manifest
    assert {path.name for path in here.iterdir() if path.is_dir()} <= {"__pycache__", "out"}


def test_without_o_the_folder_says_what_it_is(edgekit: Edgekit, here: Path) -> None:
    pictures(here / "images", 33)
    end = edgekit(
        *("build", f"{package(here)}:tiny", "--contract", "contract.toml"),
        *("--calibration", "images", "--precision", "fp16"),
    )
    assert (end.code, end.out) == (0, "tiny-linux-fp16\n")
    manifest = json.loads((here / "tiny-linux-fp16" / "manifest.json").read_text())
    assert manifest["parity"][0]["images"] == 33
    assert manifest["provenance"]["calibration_images"] == 0
