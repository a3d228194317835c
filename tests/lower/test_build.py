"""Builds of the checkpoint that edgekit carries, and what cannot be built."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edgekit import bundle
from edgekit.bundle import Bundle
from edgekit.device.golden import replay
from edgekit.device.session import open_session
from edgekit.errors import InputError, UnknownName
from edgekit.lower import trained
from edgekit.lower.build import build
from edgekit.lower.plan import Request


def silent(line: str) -> None:
    pass


@pytest.mark.parametrize(
    ("request_", "kind", "says"),
    [
        (Request("rasberry-pi"), UnknownName, "did you mean 'raspberry-pi'"),
        (Request("linux", backend="lite-rt"), UnknownName, "did you mean 'litert'"),
        (Request("linux", precision="int4"), UnknownName, "did you mean 'int8'"),
        (Request("linux", calibration=Path("nowhere")), InputError, "nowhere is not a folder"),
    ],
    ids=["target", "backend", "precision", "calibration"],
)
def test_what_cannot_be_used_is_said(
    tmp_path: Path, request_: Request, kind: type[InputError], says: str
) -> None:
    with pytest.raises(kind) as caught:
        build(dataclasses.replace(request_, out=tmp_path / "made"), silent)
    assert says in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The carried checkpoint for Linux, int8; not to be changed."""
    out = tmp_path_factory.mktemp("carried") / "made"
    return build(Request("linux", out=out), silent)


def test_the_carried_checkpoint_is_proven_hop_by_hop(carried: Bundle) -> None:
    manifest = carried.manifest
    assert [hop.name for hop in manifest.parity] == [
        "eager -> folded",
        "folded -> exported",
        "exported -> quantised",
        "quantised -> lowered",
        "lowered -> packaged",
    ]
    folded, exported, quantised, lowered, read = (hop.snr_db for hop in manifest.parity)
    assert min(folded, exported) > 90
    assert quantised > 22
    assert lowered > 22
    assert read == 200
    assert all(hop.images == 48 for hop in manifest.parity)
    assert (manifest.target, manifest.backend, manifest.precision) == ("linux", "onnx", "int8")
    assert manifest.provenance.calibration_images == 0  # its integers are those of training
    assert trained.FROM_TRAINING in manifest.notes
    assert len(manifest.golden) == 4


def test_the_bundle_replays_its_golden_frames(carried: Bundle) -> None:
    with closing(open_session(bundle.read(carried.path))) as session:
        result = replay(carried, session)
    assert result.failures == ()
    assert len(result.cases) == 4
    frames = [np.load(carried.path / golden.input) for golden in carried.manifest.golden]
    assert len({frame.tobytes() for frame in frames}) == 4


def test_nothing_of_the_build_machine_is_in_the_bundle(carried: Bundle, root: Path) -> None:
    private = [str(root).encode(), str(Path.home()).encode() + b"/", b"site-packages"]
    private += [str(carried.path.parent).encode(), os.uname().nodename.encode()]
    for path in carried.path.rglob("*"):
        if path.is_file() and path.name not in bundle.UNHASHED:
            content = path.read_bytes()
            assert not [text for text in private if len(text) > 3 and text in content], path


def test_the_report_says_all_of_it(carried: Bundle, root: Path) -> None:
    found = json.loads((carried.path / bundle.REPORT).read_text(encoding="utf-8"))
    assert [hop["name"] for hop in found["parity"]] == [h.name for h in carried.manifest.parity]
    assert found["model_bytes"] == carried.model.stat().st_size
    assert found["placement"]["accelerator"] == "ONNX Runtime's CPU provider"
    assert found["fusion"]["activations"] == found["fusion"]["fused"] == 37
    assert len(found["layers"]["exported -> quantised"]) > 50
    assert found["accuracy"]["low"] < found["accuracy"]["top1"] < found["accuracy"]["high"]
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p95"]
    page = (carried.path / bundle.PAGE).read_text(encoding="utf-8")
    assert page.count("<svg") == page.count("</svg>") >= 4
    private = [str(root), f"{Path.home()}/", str(carried.path.parent), os.uname().nodename]
    assert not [text for text in private if len(text) > 3 and text in page]
    card = (carried.path / "README.md").read_text(encoding="utf-8")
    taken = re.search(r"takes (\d+) of (\d+) operators, in 1 partition", card)
    assert taken, card
    assert int(taken[2]) - int(taken[1]) == 2  # what a camera's pixels need first


def test_an_existing_folder_is_kept_without_force(carried: Bundle) -> None:
    with pytest.raises(InputError, match="--force"):
        build(Request("linux", out=carried.path), silent)
    assert bundle.read(carried.path) == carried


def built_elsewhere(out: Path, *arguments: str) -> Path:
    """Build in a process of its own, with other hashes."""
    command = "import sys; from edgekit.cli.main import main; sys.exit(main())"
    subprocess.run(
        [sys.executable, "-c", command, "build", *arguments, "-o", str(out)],
        env=os.environ | {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    return out


def contents(folder: Path) -> dict[str, bytes]:
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in bundle.UNHASHED
    }
    assert "manifest.json" in found
    return found


def differing(one: Mapping[str, bytes], two: Mapping[str, bytes]) -> list[str]:
    return sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))


def test_two_processes_build_the_same_bytes(carried: Bundle, tmp_path: Path) -> None:
    other = built_elsewhere(tmp_path / "made", "--target", "linux")
    assert differing(contents(carried.path), contents(other)) == []


@pytest.mark.slow
def test_no_fallback_refuses_what_falls_back(tmp_path: Path) -> None:
    (tmp_path / "image.toml").write_text("height = 32\nwidth = 32\n")
    end = subprocess.run(
        [sys.executable, "-m", "edgekit.cli.main", "build", "cifar_resnet20", "--weights", "random",
         "--target", "raspberry-pi", "--precision", "fp32", "--no-fallback",
         "--contract", str(tmp_path / "image.toml"), "-o", str(tmp_path / "made")],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert end.returncode == 1, end.stderr
    for said in (
        "XNNPACK refuses 4 of 40 operators: STRIDED_SLICE",
        "its step is 2; XNNPACK slices with step 1 only",
        "or build without --no-fallback; no bundle was written",
    ):
        assert said in end.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["image.toml"]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_two_processes_build_the_same_litert_bytes(tmp_path: Path, precision: str) -> None:
    arguments = ("--target", "raspberry-pi", "--precision", precision)
    one = built_elsewhere(tmp_path / "one", *arguments)
    two = build(Request("raspberry-pi", precision=precision, out=tmp_path / "two"), silent)
    assert differing(contents(one), contents(two.path)) == []
