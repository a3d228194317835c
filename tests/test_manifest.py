from dataclasses import replace
from typing import Any

import pytest

from edgekit.errors import BundleError
from edgekit.manifest import FileEntry, Golden, Manifest, check, folders
from edgekit.spec import ImageSpec, TensorSpec

NAMES = ("golden/0.png", "golden/0_input.npy", "golden/0_output.npy", "labels.txt", "model.onnx")


def listed(*names: str) -> tuple[FileEntry, ...]:
    return tuple(FileEntry(name, 1, "0" * 64) for name in sorted(names))


def changed(manifest: Manifest, **changes: Any) -> Manifest:
    return replace(manifest, **({"files": listed(*NAMES)} | changes))


def test_a_lawful_manifest_passes(manifest: Manifest) -> None:
    check(changed(manifest), "x")


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a//b",
        "a/",
        "",
        ".",
        "./a",
        "a\\b",
        "C:x",
        "c:/x",
        "a\0b",
        "a\nb",
        "a\n",
        " a",
        "a.",
        ".hidden",
        "-o",
        "e\u0301",
        "x" * 1025,
        "manifest.json",
        "report.json",
        "report.html",
    ],
)
def test_a_name_that_is_not_plain_is_refused_everywhere(manifest: Manifest, name: str) -> None:
    golden = manifest.golden[0]
    for change in (
        {"files": listed(*NAMES, name)},
        {"model": name},
        {"labels": name},
        {"golden": (Golden(name, golden.input, golden.output),)},
        {"golden": (Golden(golden.frame, name, golden.output),)},
        {"golden": (Golden(golden.frame, golden.input, name),)},
    ):
        with pytest.raises(BundleError, match="a name must be relative"):
            check(changed(manifest, **change), "x")


@pytest.mark.parametrize(
    "names",
    [("Model.onnx",), ("GOLDEN/1.png",), ("extra/a/x", "extra/A/y"), ("Golden",)],
)
def test_names_that_differ_in_case_only_are_refused(
    manifest: Manifest, names: tuple[str, ...]
) -> None:
    with pytest.raises(BundleError, match="one name where letter case is ignored"):
        check(changed(manifest, files=listed(*NAMES, *names)), "x")


@pytest.mark.parametrize(
    ("names", "message"),
    [(("model.onnx",), "lists a path twice"), (("golden",), "as a file and as a folder")],
)
def test_names_that_collide_are_refused(
    manifest: Manifest, names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        check(changed(manifest, files=listed(*NAMES, *names)), "x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": listed(*NAMES)[::-1]}, "not sorted"),
        ({"files": listed(*NAMES[1:])}, r"'golden' names 'golden/0\.png', which 'files' does not"),
        ({"model": "model.tflite"}, r"'model' names 'model\.tflite'"),
        ({"labels": "golden"}, "'labels' names 'golden'"),
        ({"name": "a\x1b[31m"}, r"control characters in 'a\\x1b\[31m'"),
        ({"notes": ("fine", "a\nb")}, r"control characters in 'a\\nb'"),
        ({"report": "labels.txt"}, r"'report' must be 'report\.json'"),
        ({"files": (*listed(*NAMES), FileEntry("z", -1, "0" * 64))}, "z has the size -1"),
        ({"files": (*listed(*NAMES), FileEntry("z", 1, "A" * 64))}, "z has no sha256"),
        ({"inputs": ()}, "'inputs' must be one uint8 tensor"),
        ({"inputs": (TensorSpec("image", (1, 3, 4, 4), "uint8"),)}, "'inputs' must be one uint8"),
        ({"inputs": (TensorSpec("image", (1, 4, 4, 3), "int8"),)}, "'inputs' must be one uint8"),
        ({"outputs": (TensorSpec("logits", (1, 0), "float32"),)}, "'outputs' must be one float32"),
        ({"outputs": (TensorSpec("logits", (3,), "float32"),)}, "'outputs' must be one float32"),
        ({"image": ImageSpec(0, 4)}, "side is not positive"),
        ({"image": ImageSpec(4, 4, crop_fraction=0.0)}, "crop_fraction"),
        ({"image": ImageSpec(4, 4, fill=256)}, "fill"),
        ({"image": ImageSpec(4, 4, std=(1.0, 0.0, 1.0))}, "std"),
    ],
)
def test_each_law_is_held(manifest: Manifest, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        check(changed(manifest, **changes), "x")


def test_folders_on_the_way() -> None:
    assert folders(["a/b/c", "a/d", "e"]) == {"a", "a/b"}
