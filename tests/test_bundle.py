import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import bundle
from edgekit.bundle import UNHASHED, Manifest
from edgekit.errors import BundleError, EdgekitError, InputError, IntegrityError

Make = Callable[[Path], Path]
HASHED = (
    "README.md",
    "golden/0.png",
    "golden/0_input.npy",
    "golden/0_output.npy",
    "labels.txt",
    "model.onnx",
)


RELEASED = [path.parent for path in (Path(__file__).parent / "bundles").rglob("manifest.json")]


@pytest.fixture
def folder(make_bundle: Make, tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "fake")


@pytest.fixture(scope="module")
def lasting(make_bundle: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One bundle for many hypothesis examples, each of which mends what it broke."""
    return make_bundle(tmp_path_factory.mktemp("lasting") / "fake")


def test_what_is_sealed_is_read_back(folder: Path, manifest: Manifest) -> None:
    found = bundle.read(folder)
    assert found.labels == ("cat", "cat", "château")
    assert found.model == folder / "model.onnx"
    assert tuple(entry.path for entry in found.manifest.files) == HASHED
    assert replace(found.manifest, files=(), digest="") == manifest
    assert found.size == sum((folder / name).stat().st_size for name in HASHED)


def test_two_builds_give_the_same_bytes(make_bundle: Make, tmp_path: Path) -> None:
    one, two = make_bundle(tmp_path / "one"), make_bundle(tmp_path / "two")
    for name in (*HASHED, "manifest.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_sealing_again_changes_nothing(folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    bundle.seal(folder, bundle.read(folder).manifest)
    assert (folder / "manifest.json").read_bytes() == before


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(HASHED), where=st.integers(0), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_hashed_file_is_refused(
    lasting: Path, name: str, where: int, bit: int
) -> None:
    path = lasting / name
    right = path.read_bytes()
    where %= len(right)
    path.write_bytes(right[:where] + bytes([right[where] ^ 1 << bit]) + right[where + 1 :])
    try:
        with pytest.raises(IntegrityError, match=name):
            bundle.read(lasting)
    finally:
        path.write_bytes(right)
    bundle.read(lasting)


@settings(max_examples=600, deadline=None)
@given(where=st.integers(0, 1 << 20), byte=st.integers(0, 255))
def test_any_changed_byte_of_the_manifest_is_refused(lasting: Path, where: int, byte: int) -> None:
    path = lasting / "manifest.json"
    right = path.read_bytes()
    where %= len(right)
    if right[where] == byte:
        return
    path.write_bytes(right[:where] + bytes([byte]) + right[where + 1 :])
    try:
        with pytest.raises((IntegrityError, BundleError), match=r"manifest\.json"):
            bundle.read(lasting)
    finally:
        path.write_bytes(right)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=300))
def test_no_manifest_of_any_bytes_ends_in_a_traceback(lasting: Path, data: bytes) -> None:
    path = lasting / "manifest.json"
    right = path.read_bytes()
    path.write_bytes(data)
    try:
        with pytest.raises(EdgekitError):
            bundle.read(lasting)
    finally:
        path.write_bytes(right)


@pytest.mark.parametrize("name", HASHED)
def test_a_missing_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(IntegrityError, match=f"{name} is missing"):
        bundle.read(folder)


@pytest.mark.parametrize("name", ["extra.bin", "golden/1.png", ".hidden", "MODEL.ONNX"])
def test_an_unlisted_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    with pytest.raises(IntegrityError, match=f"'{name}' is not listed"):
        bundle.read(folder)


def test_an_unlisted_folder_is_refused(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(IntegrityError, match="'empty' is not listed"):
        bundle.read(folder)


@pytest.mark.parametrize("name", [*HASHED, "manifest.json", *UNHASHED, "golden"])
def test_a_link_is_refused_even_to_the_right_bytes(folder: Path, name: str) -> None:
    outside = folder.parent / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    with pytest.raises(IntegrityError, match=f"'{name}' is a link"):
        bundle.read(folder)


@pytest.mark.parametrize("name", ["model.onnx", "labels.txt", "manifest.json", *UNHASHED])
def test_a_fifo_is_refused_and_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    start = time.monotonic()
    with pytest.raises(IntegrityError, match=f"'{name}' is not a regular file"):
        bundle.read(folder)
    assert time.monotonic() - start < 5


def test_a_folder_in_the_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").mkdir()
    with pytest.raises(IntegrityError, match=r"'model\.onnx' is not listed"):
        bundle.read(folder)


@pytest.mark.parametrize("name", UNHASHED)
def test_the_report_may_hold_anything_or_be_absent(folder: Path, name: str) -> None:
    before = bundle.read(folder)
    (folder / name).write_bytes(b"\xff not JSON")
    assert bundle.read(folder) == before
    (folder / name).unlink()
    assert bundle.read(folder) == before


@pytest.mark.parametrize("name", ["report.htm", "report.html.js", "golden/report.html"])
def test_nothing_else_is_taken_for_the_report(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"<script>")
    with pytest.raises(IntegrityError, match=f"'{name}' is not listed"):
        bundle.read(folder)


def test_a_linked_path_to_a_bundle_is_the_users_own_choice(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(folder)
    assert bundle.read(tmp_path / "latest").labels


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"[]", "no bundle schema number"),
        (b'{"schema": true}', "no bundle schema number"),
        (b'{"schema": 1}', "key 'name' is missing"),
        (b'{"schema": 1, "schema": 1}', "key 'schema' stands twice"),
        (b'{"schema": NaN}', "NaN"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"schema": 1, "name": ' + b"[" * 500 + b"]" * 500 + b"}", "recursion|nested|name"),
        (b'{"schema": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"schema": 1, "name": "\\ud800"}', "manifest.json"),
        (b'{"name": "My web app", "icons": []}', "no bundle schema number"),
    ],
)
def test_a_strange_manifest_is_refused_by_name(folder: Path, content: bytes, message: str) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match=message):
        bundle.read(folder)


def test_a_huge_manifest_is_refused_unread(folder: Path) -> None:
    os.truncate(folder / "manifest.json", 1 << 40)  # sparse
    with pytest.raises(BundleError, match="which none of ours has"):
        bundle.read(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"treshold": 1}, "unknown key 'treshold'; valid keys are: accuracy, backend"),
        ({"name": 3}, "'name': input should be a valid string, got 3"),
        ({"precision": "int4"}, "'precision': input should be 'fp32', 'fp16', 'int8'"),
        ({"files": [{"path": "a", "size": "1", "sha256": ""}]}, "'files.0.size'"),
        ({"files": [{"path": "a", "byte": 1}]}, "files.0"),
        ({"image": {"height": 4, "width": 4, "hue": 1}}, "unknown key 'image.hue'; .*: color"),
    ],
)
def test_a_wrong_key_is_named(folder: Path, change: dict[str, Any], message: str) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BundleError, match=message):
        bundle.read(folder)


def test_a_newer_schema_says_what_reads_it(folder: Path) -> None:
    path = folder / "manifest.json"
    mapping = json.loads(path.read_text()) | {"schema": 2, "unheard": "of"}
    mapping["provenance"]["tools"]["edgekit"] = "9.1"
    path.write_text(json.dumps(mapping))
    with pytest.raises(BundleError, match=r"schema 2, and this .* reads schemas 1 to 1; .*>=9\.1"):
        bundle.read(folder)


def test_an_edited_manifest_is_refused_though_its_values_are_valid(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"crop_fraction": 1.0', '"crop_fraction": 0.5'))
    with pytest.raises(IntegrityError, match=r"manifest\.json was changed after it was built"):
        bundle.read(folder)


@pytest.mark.parametrize(("labels", "count"), [("a\nb\n", 2), ("a\nb\nc\nd\n", 4), ("", 1)])
def test_labels_must_be_as_many_as_classes(folder: Path, labels: str, count: int) -> None:
    manifest = bundle.read(folder).manifest
    (folder / "labels.txt").write_text(labels)
    with pytest.raises(BundleError, match=f"has {count} labels; the model has 3 classes"):
        bundle.seal(folder, manifest)


def test_labels_must_be_utf8_and_lines(folder: Path) -> None:
    manifest = bundle.read(folder).manifest
    (folder / "labels.txt").write_bytes(b"\xff\na\nb\n")
    with pytest.raises(BundleError, match="not UTF-8"):
        bundle.seal(folder, manifest)
    bundle.write_labels(folder / "labels.txt", ("a", "b c", ""))
    bundle.seal(folder, manifest)
    assert bundle.read(folder).labels == ("a", "b c", "")
    (folder / "labels.txt").write_text("a\n\x1b[2Jb\nc\n")
    with pytest.raises(BundleError, match=r"control characters in '\\x1b\[2Jb'"):
        bundle.seal(folder, manifest)
    with pytest.raises(BundleError, match=r"control characters in 'a\\nb'"):
        bundle.write_labels(folder / "labels.txt", ("a\nb",))


@pytest.mark.parametrize("name", ["a b.bin", "ü.bin", "-x", "..x", "a\\b", "end.", "a\nb"])
def test_a_name_that_could_not_be_read_back_is_not_sealed(folder: Path, name: str) -> None:
    manifest = bundle.read(folder).manifest
    (folder / name).write_bytes(b"")
    with pytest.raises(BundleError, match="a name must be relative"):
        bundle.seal(folder, manifest)


def test_a_link_is_not_sealed(folder: Path) -> None:
    manifest = bundle.read(folder).manifest
    (folder / "more").symlink_to(folder / "model.onnx")
    with pytest.raises(IntegrityError, match="'more' is a link"):
        bundle.seal(folder, manifest)


def test_a_model_may_be_a_folder_of_files(folder: Path) -> None:
    manifest = replace(bundle.read(folder).manifest, model="model.mlpackage")
    (folder / "model.mlpackage" / "Data").mkdir(parents=True)
    (folder / "model.mlpackage" / "Data" / "weight.bin").write_bytes(b"weights")
    bundle.seal(folder, manifest)
    assert bundle.read(folder).model.is_dir()


def test_what_is_no_bundle_is_said_plainly(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no such folder"):
        bundle.read(tmp_path / "absent")
    with pytest.raises(BundleError, match=r"holds no manifest\.json"):
        bundle.read(tmp_path)
    with pytest.raises(BundleError, match=rf"is a file, .* did you mean {folder}\?"):
        bundle.read(folder / "model.onnx")
    shutil.copy(folder / "model.onnx", tmp_path / "bare.tflite")
    with pytest.raises(InputError, match=r"give the folder that `edgekit build` wrote$"):
        bundle.read(tmp_path / "bare.tflite")


@pytest.mark.parametrize("released", RELEASED, ids=lambda path: path.name)
def test_a_bundle_that_a_released_version_wrote_is_readable_forever(released: Path) -> None:
    assert bundle.read(released).labels
