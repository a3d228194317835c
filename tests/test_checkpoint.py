"""Checkpoints: what is written is read again; everything else is refused with a reason."""

import dataclasses
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from edgekit import checkpoint
from edgekit.checkpoint import Card, Made, Range
from edgekit.errors import CheckpointError, StorageError, UnknownName
from edgekit.spec import ImageSpec

TENSORS = {
    "features.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "features.0.bias": np.array([0.5, -1], np.float32),
}
CARD = Card(
    schema=2,
    architecture="mobilenet_v2",
    arguments={"num_classes": 2, "width_mult": 0.5},
    image=ImageSpec(8, 8),
    labels=("Egyptian cat", "espresso"),
    sha256="",
    trained_on="made up",
    license="Apache-2.0",
    accuracy=0.5,
    accuracy_images=4,
    recipe="test",
    seed=1,
    tools={"torch": "2"},
    recipe_text='name = "test"',
    data={"train": "0" * 64},
    metrics={"macs": 12.0, "sparsity": 0.5},
    history=(Made("distil", "distill", "test", 1, "1" * 64, 0.4, 12, 8),),
    widths={"features.0": {"out_channels": 2}},
    ranges={"image": Range(0.5, -128)},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    checkpoint.write(path, TENSORS, CARD)
    return path


def test_what_is_written_is_read(path: Path) -> None:
    found = checkpoint.read(path)
    assert found.card == dataclasses.replace(CARD, sha256=checkpoint.digest(path))
    assert found.tensors.keys() == TENSORS.keys()
    for name, wanted in TENSORS.items():
        np.testing.assert_array_equal(found.tensors[name], wanted)
        assert found.tensors[name].dtype == wanted.dtype


def test_writing_twice_gives_the_same_bytes(path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    checkpoint.write(again, dict(reversed(TENSORS.items())), CARD)
    assert again.read_bytes() == path.read_bytes()
    assert again.with_suffix(".json").read_bytes() == path.with_suffix(".json").read_bytes()


def test_a_tensor_that_is_not_contiguous_is_written_by_value(tmp_path: Path) -> None:
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    checkpoint.write(tmp_path / "t.safetensors", {"a": turned}, CARD)
    np.testing.assert_array_equal(checkpoint.read(tmp_path / "t.safetensors").tensors["a"], turned)


def test_a_card_of_the_first_release_is_read(path: Path) -> None:
    card = json.loads(path.with_suffix(".json").read_text())
    for name in ("recipe_text", "data", "metrics", "history", "widths", "ranges"):
        del card[name]
    path.with_suffix(".json").write_text(json.dumps(card | {"schema": 1}))
    found = checkpoint.read(path).card
    assert found is not None
    assert (found.labels, found.history, found.ranges) == (CARD.labels, (), {})


def test_weights_without_a_card_are_read(path: Path) -> None:
    path.with_suffix(".json").unlink()
    assert checkpoint.read(path).card is None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="absent.safetensors: No such file"):
        checkpoint.read(tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match="Is a directory"):
        checkpoint.read(tmp_path)


def test_a_flipped_byte_is_refused(path: Path) -> None:
    stored = bytearray(path.read_bytes())
    stored[-1] ^= 1
    path.write_bytes(stored)
    with pytest.raises(CheckpointError, match="sha256 .* its card small.json"):
        checkpoint.read(path)


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\xff" * 64])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a safetensors file, or is damaged"):
        checkpoint.read(path)


def test_every_cut_is_refused(path: Path) -> None:
    stored = path.read_bytes()
    path.with_suffix(".json").unlink()
    for length in range(len(stored)):
        path.write_bytes(stored[:length])
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoint.read(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"labels": "cat"}, "'labels'"),
        ({"schema": 3}, "schema 3; this edgekit reads schema 1 to 2"),
        ({"history": [{"step": "distil"}]}, "history"),
        ({"ranges": {"image": {"scale": "0.5", "zero_point": 0}}}, "scale"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(
    path: Path, change: dict[str, object], reason: str
) -> None:
    card = path.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **change}))
    with pytest.raises(CheckpointError, match=reason):
        checkpoint.read(path)


def test_a_card_that_is_not_json_is_refused(path: Path) -> None:
    path.with_suffix(".json").write_text("{")
    with pytest.raises(CheckpointError, match="small.json is not JSON"):
        checkpoint.read(path)


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_full_disk_leaves_what_was_there(
    path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    calls = 0

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match="the disk is full"):
        checkpoint.write(path, {"other": np.zeros(3, np.float32)}, CARD)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot write .*small.safetensors"):
        checkpoint.write(tmp_path / "file" / "small.safetensors", TENSORS, CARD)


def test_interrupted_between_the_two_names_is_noticed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if target.suffix == ".json":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write(path, {"other": np.zeros(3, np.float32)}, CARD)
    with pytest.raises(CheckpointError, match="one of the two is damaged or was replaced"):
        checkpoint.read(path)
    assert len(list(path.parent.iterdir())) == 2  # no temporary file stays


def test_resolve_finds_files_and_carried_names(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert checkpoint.resolve(str(path)) == path
    monkeypatch.setattr(checkpoint, "CARRIED", tmp_path)
    assert checkpoint.names() == ("small",)
    assert checkpoint.resolve("small") == path
    with pytest.raises(UnknownName, match="did you mean 'small'"):
        checkpoint.resolve("smal")
    with pytest.raises(CheckpointError, match="no checkpoint at .*gone.safetensors"):
        checkpoint.resolve("gone.safetensors")
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        checkpoint.resolve(str(tmp_path / "gone"))


def test_pulled_ones_are_found_by_name_and_carried_ones_come_first(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = "mobilenet_v2.torchvision-v2"
    pulled = tmp_path / "cache" / "edgekit" / "weights"
    monkeypatch.delenv("EDGEKIT_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert checkpoint.folder() == pulled
    with pytest.raises(CheckpointError, match=f"'edgekit weights pull {name}'"):
        checkpoint.resolve(name)
    checkpoint.write(pulled / f"{name}.safetensors", TENSORS, CARD)
    checkpoint.write(pulled / "small.safetensors", TENSORS, CARD)
    assert {name, "small"} < set(checkpoint.names())
    assert checkpoint.resolve(name) == pulled / f"{name}.safetensors"
    assert (pulled / f"{name}.json").exists()
    monkeypatch.setattr(checkpoint, "CARRIED", path.parent)
    assert checkpoint.resolve("small") == path
    monkeypatch.setenv("EDGEKIT_WEIGHTS", str(tmp_path / "other"))
    assert checkpoint.names() == ("small",)


def test_check_passes_what_fits() -> None:
    checkpoint.check({name: value.shape for name, value in TENSORS.items()}, TENSORS, "here")


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        (
            {"features.0.weight": (2, 4), "features.0.bias": (3,)},
            "here: tensor 'features.0.weight' is (2, 3), the network needs (2, 4)",
        ),
        (
            {"features.0.weight": (2, 3), "features.1.weight": (1,), "features.0.bias": (3,)},
            "here has no tensor 'features.1.weight' (1,), which the network needs",
        ),
        ({"features.0.weight": (2, 3)}, "here has a tensor 'features.0.bias' (2,)"),
    ],
)
def test_check_names_the_first_tensor_that_differs(
    expected: dict[str, tuple[int, ...]], reason: str
) -> None:
    with pytest.raises(CheckpointError) as caught:
        checkpoint.check(expected, TENSORS, "here")
    assert reason in str(caught.value)


def test_the_carried_checkpoint_is_what_its_card_says() -> None:
    path = checkpoint.default()
    assert path.stat().st_size <= 3_000_000
    found = checkpoint.read(path)
    assert found.card is not None
    assert len(found.card.labels) == 50
    assert {"Egyptian cat", "espresso"} <= set(found.card.labels)
    assert found.card.accuracy_images == 2500
    assert path.stem in checkpoint.names()


def test_a_file_written_long_ago_is_read(tmp_path: Path) -> None:
    """The first release's format, byte for byte: its cards stay readable."""
    stored = save({"a": np.array([1], np.float32)})
    (tmp_path / "old.safetensors").write_bytes(stored)
    (tmp_path / "old.json").write_text(OLD)
    card = checkpoint.read(tmp_path / "old.safetensors").card
    assert card is not None
    assert card.labels == ("Egyptian cat", "espresso")
    assert card.image == ImageSpec(8, 8)
    assert card.history == ()


def test_what_is_written_now_byte_for_byte(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "new.safetensors", {"a": np.array([1], np.float32)}, CARD)
    assert (tmp_path / "new.json").read_text() == NEW


OLD = """\
{
  "accuracy": 0.5,
  "accuracy_images": 4,
  "architecture": "mobilenet_v2",
  "arguments": {
    "num_classes": 2,
    "width_mult": 0.5
  },
  "image": {
    "color": "RGB",
    "crop_fraction": 0.875,
    "fill": 114,
    "fit": "crop",
    "height": 8,
    "interpolation": "bilinear",
    "mean": [
      0.485,
      0.456,
      0.406
    ],
    "std": [
      0.229,
      0.224,
      0.225
    ],
    "width": 8
  },
  "labels": [
    "Egyptian cat",
    "espresso"
  ],
  "license": "Apache-2.0",
  "recipe": "test",
  "schema": 1,
  "seed": 1,
  "sha256": "932dcf40673d4c3a7b6cbbbfacf8551c113a2331adce1dacb25f827560732e88",
  "tools": {
    "torch": "2"
  },
  "trained_on": "made up"
}
"""

NEW = """\
{
  "accuracy": 0.5,
  "accuracy_images": 4,
  "architecture": "mobilenet_v2",
  "arguments": {
    "num_classes": 2,
    "width_mult": 0.5
  },
  "data": {
    "train": "0000000000000000000000000000000000000000000000000000000000000000"
  },
  "history": [
    {
      "accuracy": 0.4,
      "kind": "distill",
      "macs": 12,
      "parameters": 8,
      "recipe": "test",
      "seed": 1,
      "sha256": "1111111111111111111111111111111111111111111111111111111111111111",
      "step": "distil"
    }
  ],
  "image": {
    "color": "RGB",
    "crop_fraction": 0.875,
    "fill": 114,
    "fit": "crop",
    "height": 8,
    "interpolation": "bilinear",
    "mean": [
      0.485,
      0.456,
      0.406
    ],
    "std": [
      0.229,
      0.224,
      0.225
    ],
    "width": 8
  },
  "keep_float": [],
  "labels": [
    "Egyptian cat",
    "espresso"
  ],
  "license": "Apache-2.0",
  "metrics": {
    "macs": 12.0,
    "sparsity": 0.5
  },
  "ranges": {
    "image": {
      "scale": 0.5,
      "zero_point": -128
    }
  },
  "recipe": "test",
  "recipe_text": "name = \\"test\\"",
  "schema": 2,
  "seed": 1,
  "sha256": "932dcf40673d4c3a7b6cbbbfacf8551c113a2331adce1dacb25f827560732e88",
  "tools": {
    "torch": "2"
  },
  "trained_on": "made up",
  "widths": {
    "features.0": {
      "out_channels": 2
    }
  }
}
"""
