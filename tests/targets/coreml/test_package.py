"""A package's folder: bytes of what it holds alone, and what is refused."""

import json
from pathlib import Path

import pytest

from edgekit.errors import BundleError
from targets.coreml import package


def write(folder: Path, program: bytes = b"program", weights: bytes = b"weights") -> Path:
    source = folder / "source"
    source.mkdir(parents=True)
    (source / "weight.bin").write_bytes(weights)
    package.write(folder / "model.mlpackage", program, source)
    return folder / "model.mlpackage"


def files(path: Path) -> dict[str, bytes]:
    found = (each for each in path.rglob("*") if each.is_file())
    return {str(each.relative_to(path)): each.read_bytes() for each in found}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    program, weights = package.read(write(tmp_path))
    assert program == b"program"
    assert (weights / "weight.bin").read_bytes() == b"weights"


def test_equal_programs_give_equal_bytes_and_others_do_not(tmp_path: Path) -> None:
    one, same = (files(write(tmp_path / name)) for name in "ab")
    assert one == same
    assert set(one) == {
        "Manifest.json",
        "Data/com.apple.CoreML/model.mlmodel",
        "Data/com.apple.CoreML/weights/weight.bin",
    }
    other = files(write(tmp_path / "c", weights=b"others"))
    assert other["Manifest.json"] != one["Manifest.json"], "its ids are those of its content"


def test_the_manifest_is_of_apples_form(tmp_path: Path) -> None:
    manifest = json.loads((write(tmp_path) / "Manifest.json").read_text())
    assert manifest["fileFormatVersion"] == "1.0.0"
    entries = manifest["itemInfoEntries"]
    root = entries[manifest["rootModelIdentifier"]]
    assert root["path"] == "com.apple.CoreML/model.mlmodel"
    assert {entry["author"] for entry in entries.values()} == {"com.apple.CoreML"}


@pytest.mark.parametrize(
    "manifest", ["", "[]", "{}", '{"itemInfoEntries": {}, "rootModelIdentifier": "A"}']
)
def test_a_manifest_that_names_no_model(tmp_path: Path, manifest: str) -> None:
    path = write(tmp_path)
    (path / "Manifest.json").write_text(manifest)
    with pytest.raises(BundleError, match="refuses the model .* names no model"):
        package.read(path)


def test_a_manifest_that_points_outside(tmp_path: Path) -> None:
    path = write(tmp_path)
    text = (path / "Manifest.json").read_text()
    (path / "Manifest.json").write_text(text.replace("com.apple.CoreML/model", "../../../model"))
    (tmp_path.parent / "model.mlmodel").write_bytes(b"")
    with pytest.raises(BundleError, match="lies outside of it"):
        package.read(path)


def test_a_file_and_nothing_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BundleError, match="it is a file, and a package is a folder"):
        package.read(tmp_path / "file")
    with pytest.raises(BundleError, match="cannot read the model"):
        package.read(tmp_path / "absent")
