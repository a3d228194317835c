import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle import read, seal

Edgekit = Callable[..., Any]


def test_a_sound_bundle_passes(edgekit: Edgekit, running: Path) -> None:
    end = edgekit("verify", running)
    assert end.code == 0, end.err
    assert end.out.splitlines()[-1] == "PASS"
    assert end.out.count("golden/") == 2
    assert "FAIL" not in end.out


def test_json_says_the_same(edgekit: Edgekit, running: Path) -> None:
    end = edgekit("verify", running, "--json")
    found = json.loads(end.out)
    assert end.code == 0
    assert found["passed"] is True
    assert [case["frame"] for case in found["golden"]] == ["golden/0.png", "golden/1.png"]
    assert found["golden"][0]["output"]["max_abs_error"] < 1e-6


def test_a_flipped_byte_ends_with_1(edgekit: Edgekit, running: Path) -> None:
    path = running / "model.onnx"
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    end = edgekit("verify", running)
    assert (end.code, end.out) == (1, "")
    assert end.err.startswith(f"error: {running}: model.onnx has other bytes")
    assert len(end.err.splitlines()) == 1


@pytest.mark.parametrize("value", [100.0, np.inf])
def test_an_answer_that_differs_ends_with_1(edgekit: Edgekit, running: Path, value: float) -> None:
    """Sealed anew, so that the bytes are right and only the model's answer is not."""
    manifest = read(running).manifest
    np.save(running / "golden/1_output.npy", np.full((1, 3), value, np.float32))
    seal(running, manifest)
    end = edgekit("verify", running)
    assert end.code == 1
    lines = [line for line in end.out.splitlines() if line.startswith("golden/")]
    assert [line.split()[-1] for line in lines] == ["PASS", "FAIL"]
    assert "golden/1.png: the model's output differs" in end.err
    end = edgekit("verify", running, "--json")
    assert end.code == 1
    assert json.loads(end.out)["passed"] is False


def test_a_bundle_without_proof_does_not_pass(edgekit: Edgekit, running: Path) -> None:
    seal(running, replace(read(running).manifest, golden=()))
    end = edgekit("verify", running)
    assert end.code == 1
    assert "no golden frames" in end.err


def test_a_bare_model_file_is_explained(edgekit: Edgekit, running: Path) -> None:
    end = edgekit("verify", running / "model.onnx")
    assert end.code == 2
    assert end.err == (
        f"error: {running}/model.onnx is a file, and a bundle is a folder (with manifest.json and "
        f"the model in it): give the folder that `edgekit build` wrote; did you mean {running}?\n"
    )
