import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit import checkpoint
from edgekit.bundle import read, seal

Edgekit = Callable[..., Any]


def test_a_bundle_in_words(edgekit: Edgekit, running: Path) -> None:
    end = edgekit("inspect", running)
    assert end.code == 0, end.err
    for said in (
        "target   linux (onnx, fp32)",
        "session  threads 1, CPUExecutionProvider",
        "input    image: uint8 (1, 4, 4, 3)",
        "output   logits: float32 (1, 3), softmax",
        "1. cut out the centred box of 4x4's aspect ratio, 100.0% of the largest that fits",
        "3. in the model: (pixel / 255 - mean) / std, mean 0 0 0, std 1 1 1",
        "made of      fake(width=0.5)",
        "eager -> exported",
        "accuracy: top-1 50.00% of 10 images (ten made-up images)",
        "operators: Cast 1, MatMul 1, ReduceMean 1",
        "ONNX Runtime's CPU provider takes 3 of 3 operators, in 1 partition; 0 bytes cross",
        "note: the model is made up",
    ):
        assert said in end.out
    (line,) = [line for line in end.out.splitlines() if line.startswith("model.onnx")]
    assert line.split()[1] == str((running / "model.onnx").stat().st_size)


def test_json_holds_the_whole_manifest(edgekit: Edgekit, running: Path) -> None:
    found = json.loads(edgekit("inspect", running, "--json").out)
    manifest = json.loads((running / "manifest.json").read_text())
    assert found["manifest"] == manifest
    assert found["operators"] == {"Cast": 1, "MatMul": 1, "ReduceMean": 1}
    assert found["labels"] == ["red", "green", "blue"]
    assert [op["kind"] for op in found["placement"]["operators"]] == [
        "Cast",
        "ReduceMean",
        "MatMul",
    ]
    assert found["placement"]["partitions"] == 1


def test_a_backend_that_cannot_tell_its_operators(edgekit: Edgekit, running: Path) -> None:
    seal(running, replace(read(running).manifest, backend="tofu"))
    end = edgekit("inspect", running)
    assert end.code == 0
    assert "operators: no backend that lists operators 'tofu'" in end.out
    assert "what falls back is not known: no backend that tells what falls back 'tofu'" in end.out
    found = json.loads(edgekit("inspect", running, "--json").out)
    assert found["operators"] is found["placement"] is None


@pytest.mark.parametrize("name", ["absent.onnx", "some/where", "./absent"])
def test_a_path_that_is_not_there(edgekit: Edgekit, name: str) -> None:
    end = edgekit("inspect", name)
    assert end.code == 2
    assert "no bundle at" in end.err


def test_a_network(edgekit: Edgekit) -> None:
    pytest.importorskip("torch")
    end = edgekit("inspect", "mobilenet_v2", "--json")
    assert end.code == 0, end.err
    found = json.loads(end.out)
    assert found["parameters"] == found["parameters_unfolded"] == 3_504_872
    assert found["macs"] == pytest.approx(300.8e6, abs=0.05e6)
    assert found["peak_activation_bytes"] == 4 * 96 * (112 * 112 + 56 * 56)
    assert (found["receptive_field"], found["feature_stride"]) == (491, 32)
    assert found["feature_strides"] == [2, 4, 8, 16, 32]
    assert found["layers"][1] == {
        "name": "features.1.conv.0.0",
        "kind": "depthwise 3x3",
        "macs": 32 * 112 * 112 * 9,
        "parameters": 288,
        "output": [1, 32, 112, 112],
    }


def test_a_network_in_words(edgekit: Edgekit) -> None:
    pytest.importorskip("torch")
    end = edgekit("inspect", "squeezenet1_1", "--argument", "num_classes=7", "--size", "96x64")
    assert end.code == 0, end.err
    for said in (
        "model            squeezenet1_1",
        "arguments        num_classes=7",
        "input            96x64 RGB",
        "peak memory      0.46 MB of activations in float32, 0.12 MB in int8",
        "feature strides  2, 4, 8, 16",
        "MACs are those of convolutions and linear layers",
    ):
        assert said in end.out
    assert max(map(len, end.out.splitlines())) <= 100
    (total,) = [line.split() for line in end.out.splitlines() if line.startswith("total")]
    assert total[1] == f"{722_496 + 512 * 7 + 7:,}"


def test_a_folded_checkpoint_says_so(edgekit: Edgekit) -> None:
    pytest.importorskip("torch")
    end = edgekit("inspect", checkpoint.default().stem)
    assert end.code == 0, end.err
    assert " with batch norm folded, " in end.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mobilenet_v2", "--size", "big"], "--size big is not a side"),
        (["mobilenet_v2", "--argument", "width"], "'width' is not NAME=VALUE"),
        (["mobilenet_v2", "--argument", "wide=1"], "does not take {'wide': 1}"),
    ],
)
def test_what_does_not_fit_a_network(edgekit: Edgekit, arguments: list[str], said: str) -> None:
    pytest.importorskip("torch")
    end = edgekit("inspect", *arguments)
    assert end.code == 2
    assert said in end.err


def test_a_bundle_takes_no_size(edgekit: Edgekit, running: Path) -> None:
    end = edgekit("inspect", running, "--size", "96")
    assert end.code == 2
    assert "--argument and --size are for networks" in end.err


def test_an_unknown_network_is_suggested(edgekit: Edgekit) -> None:
    pytest.importorskip("torch")
    end = edgekit("inspect", "mobilnet_v2")
    assert end.code == 2
    assert "did you mean 'mobilenet_v2'?" in end.err
