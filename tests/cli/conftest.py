"""A bundle that really runs: an ONNX model of a few bytes, made here."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import Golden, Manifest, seal
from edgekit.cli.main import main

Capture = pytest.CaptureFixture[str]


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
def edgekit(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs one command line in this process."""

    def run(*arguments: object) -> Ended:
        code = main([str(argument) for argument in arguments])
        return Ended(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def weights() -> np.ndarray:
    """(3, 3) float32: class k is the mean of colour k."""
    return np.eye(3, dtype=np.float32) / 255


@pytest.fixture(scope="session")
def onnx_model(weights: np.ndarray) -> bytes:
    """uint8 (1, 4, 4, 3) -> mean colour -> float32 (1, 3)."""
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["pixels"], to=kinds.FLOAT),
            helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
        ],
        "fake",
        [helper.make_tensor_value_info("image", kinds.UINT8, (1, 4, 4, 3))],
        [helper.make_tensor_value_info("logits", kinds.FLOAT, (1, 3))],
        [
            onnx.numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
            onnx.numpy_helper.from_array(weights, "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


@pytest.fixture
def running(tmp_path: Path, manifest: Manifest, onnx_model: bytes, weights: np.ndarray) -> Path:
    """A bundle with two golden frames that ONNX Runtime reproduces exactly."""
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "fake-linux-fp32"
    (folder / "golden").mkdir(parents=True)
    golden = []
    for index in range(2):
        pixels = np.random.default_rng(index).integers(0, 256, (4, 4, 3), np.uint8)  # RGB
        names = (f"golden/{index}.png", f"golden/{index}_input.npy", f"golden/{index}_output.npy")
        cv2.imwrite(str(folder / names[0]), np.ascontiguousarray(pixels[..., ::-1]))
        np.save(folder / names[1], pixels[np.newaxis])
        mean = pixels.mean(axis=(0, 1), dtype=np.float32)
        np.save(folder / names[2], (mean @ weights)[np.newaxis])
        golden.append(Golden(*names))
    (folder / "model.onnx").write_bytes(onnx_model)
    (folder / "labels.txt").write_text("red\ngreen\nblue\n")
    seal(folder, replace(manifest, golden=tuple(golden)))
    return folder
