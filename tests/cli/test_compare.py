import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle import read, seal
from edgekit.device.measure.compare import grid

Edgekit = Callable[..., Any]
QUICK = ("--runs", 5, "--warmup", 1)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Nine images of one colour each; the bundle answers red, green or blue."""
    cv2 = pytest.importorskip("cv2")
    for n in range(9):
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[:, :, 2 - n % 3] = 100 + 10 * n  # OpenCV writes BGR
        folder = tmp_path / "photos" / ("red", "green", "blue")[n % 3]
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{n}.png"), pixels)
    return tmp_path / "photos"


@pytest.fixture
def other(running: Path, tmp_path: Path) -> Path:
    """The same model, said to be int8."""
    folder = shutil.copytree(running, tmp_path / "other")
    seal(folder, replace(read(folder).manifest, precision="int8"))
    return folder


def test_one_table(edgekit: Edgekit, running: Path, other: Path, photos: Path) -> None:
    end = edgekit("compare", other, running, "--images", photos, *QUICK)
    assert end.code == 0, end.err
    header, first, second, images, _, pairs, pair = end.out.splitlines()
    assert header.split()[:4] == ["bundle", "backend", "precision", "MB"]
    assert first.split()[:3] == ["other", "onnx", "int8"]
    assert second.split()[:3] == ["fake-linux-fp32", "onnx", "fp32"]
    assert "100.0 % (70.1 to 100.0)" in first
    assert images == "9 images; 'agrees' is with fake-linux-fp32"
    assert pairs.split()[0] == "pair"
    assert pair.startswith("other, fake-linux-fp32")


def test_json_with_a_labels_file(
    edgekit: Edgekit, running: Path, other: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "labels.txt").write_text("red/0.png 0\ngreen/1.png 1\nblue/2.png 0\n")
    given = ("--images", photos, "--labels", tmp_path / "labels.txt", "--json")
    found = json.loads(edgekit("compare", running, other, *given, *QUICK).out)
    assert (found["images"], found["reference"]) == (3, str(running))
    first, second = found["rows"]
    assert first["top1"]["share"] == pytest.approx(2 / 3)
    assert first["top1"]["low"] < 2 / 3 < first["top1"]["high"]
    assert second["agreement"] == {"share": 1.0, "low": pytest.approx(0.4385, abs=1e-3),
                                   "high": 1.0, "images": 3}  # fmt: skip
    assert first["speed"]["runs"] == 5
    assert 0 < first["speed"]["p50_ms"] <= first["speed"]["p95_ms"]
    assert first["speed"]["peak_memory_mb"] > 1
    assert first["model_bytes"] == (running / "model.onnx").stat().st_size
    (pair,) = found["pairs"]
    assert (pair["max_abs_difference"], pair["top1_agreement"]["share"]) == (0.0, 1.0)


def test_without_images_it_is_size_and_speed(edgekit: Edgekit, running: Path) -> None:
    found = json.loads(edgekit("compare", running, "--json", *QUICK).out)
    (row,) = found["rows"]
    assert row["top1"] is row["agreement"] is row["step"] is None
    assert row["speed"]["p50_ms"] > 0
    assert found["pairs"] == []


def test_a_bundle_that_cannot_run_is_a_row(
    edgekit: Edgekit, running: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = read(other).manifest
    (other / "model.onnx").rename(other / "model.tflite")
    seal(other, replace(manifest, backend="litert", model="model.tflite"))
    monkeypatch.setenv("PYTHONWARNINGS", "default")
    end = edgekit("compare", other, running, "--json", *QUICK)
    assert end.code == 0, end.err
    refused, ran = json.loads(end.out)["rows"]
    assert refused["speed"] is None
    assert "LiteRT refuses the model" in refused["refused"]
    assert ran["refused"] == ""
    assert edgekit("compare", other, *QUICK).code == 2, "none can run: as its own error says"
    end = edgekit("compare", other, running, *QUICK)
    assert "other did not run: LiteRT refuses" in end.out


def test_exit_code_3_where_no_runtime_is_there(
    edgekit: Edgekit, running: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "onnxruntime.py").write_text(
        "raise ModuleNotFoundError('hidden by the test', name='onnxruntime')"
    )
    monkeypatch.syspath_prepend(hidden)  # workers take this process's path
    end = edgekit("compare", running, *QUICK)
    assert end.code == 3
    assert "pip install 'edgekit[onnx]'" in end.err


def test_what_cannot_be_compared_is_said(
    edgekit: Edgekit, running: Path, other: Path, photos: Path
) -> None:
    end = edgekit("compare", running, "--labels", photos)
    assert (end.code, "give --images DIR" in end.err) == (2, True)
    (other / "labels.txt").write_text("cat\ndog\nbird\n")
    seal(other, read_manifest(other))
    end = edgekit("compare", running, other, "--images", photos)
    assert (end.code, "do not tell the same classes apart" in end.err) == (2, True)


def read_manifest(folder: Path) -> Any:
    """Of a bundle that is no longer what was sealed."""
    from edgekit.manifest import Manifest
    from edgekit.values import parse

    text = json.loads((folder / "manifest.json").read_text())
    return parse(Manifest, text, "manifest.json")


@pytest.mark.parametrize("step", [0.05, 0.1515, 3.0])
def test_the_grid_of_int8_logits_is_found(step: float) -> None:
    integers = np.random.default_rng(0).integers(-128, 128, (20, 10))
    assert grid((integers * step).astype(np.float32)) == pytest.approx(step, rel=1e-4)
    noisy = (integers * np.float32(step)) * np.float32(1 + 1e-7)
    assert grid(noisy) == pytest.approx(step, rel=1e-4)


def test_floats_are_on_no_grid() -> None:
    assert grid(np.random.default_rng(0).normal(0, 1, (20, 10)).astype(np.float32)) is None
    assert grid(np.zeros((2, 2), np.float32)) is None
    assert grid(np.array([[1.0, np.nan]], np.float32)) is None
