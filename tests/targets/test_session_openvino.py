"""What only OpenVINO's session has: telemetry kept out, precision held, the account of both."""

import os
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edgekit.spec import SessionOptions
from targets.openvino.runtime import line
from targets.openvino.session import account, load

LOAD = """
import sys, pathlib, socket
tried = []
socket.getaddrinfo = lambda *a, **k: tried.append(a) or []
from edgekit.spec import SessionOptions
from targets.openvino.session import load
load(pathlib.Path(sys.argv[1]), SessionOptions()).close()
import openvino
assert "openvino.tools.ovc" not in sys.modules, "not left hidden"
print(tried, sorted(name for name in sys.modules if "telemetry" in name))
"""


def test_nothing_is_sent_and_nothing_is_written(
    onnx_model: Path, tmp_path: Path, root: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home)}
    environment.pop("CI", None)  # its telemetry holds still where this is set
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(onnx_model)],
        capture_output=True, text=True, check=True, cwd=root, env=environment,
    )  # fmt: skip
    assert done.stdout == "[] []\n"
    assert list(home.rglob("*")) == []


def test_the_account_names_precision_and_kind() -> None:
    ran = Counter({("u8", "Convolution"): 52, ("f32", "Reorder"): 2, ("f32", "Convolution"): 1})
    assert account("1.0", "a CPU", ran) == (
        "OpenVINO 1.0: runs on a CPU; in f32: Convolution 1, Reorder 2; in u8: Convolution 52"
    )


def test_source_places_are_left_out_of_messages() -> None:
    error = RuntimeError("Exception from src/core.cpp:105:\nException from src/b.cpp:1:\nBad  file")
    assert line(error) == "Bad file"
    assert line(RuntimeError()) == "RuntimeError"


def write_product(path: Path, kind: type[np.floating]) -> None:
    """logits = pixels . weights, with weights and product of `kind`."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = (rng.standard_normal((192, 5)) / 4096).astype(kind)
    to = {np.float32: TensorProto.FLOAT, np.float16: TensorProto.FLOAT16}[kind]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["real"], to=to),
            helper.make_node("Reshape", ["real", "flat"], ["row"]),
            helper.make_node("MatMul", ["row", "weights"], ["product"]),
            helper.make_node("Cast", ["product"], ["logits"], to=TensorProto.FLOAT),
        ],
        "product",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 8, 8, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 5])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([1, 192]), "flat"),
        ],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), str(path))


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_the_files_precision_is_held(tmp_path: Path, kind: type[np.floating]) -> None:
    """bfloat16, which OpenVINO takes by itself where the processor has it, would be 1e-3 off."""
    path = tmp_path / "product.onnx"
    write_product(path, kind)
    pixels = np.random.default_rng(1).integers(0, 256, (1, 8, 8, 3), np.uint8)
    weights = (np.random.default_rng(0).standard_normal((192, 5)) / 4096).astype(kind)
    exact = pixels.reshape(1, 192).astype(np.float64) @ weights.astype(np.float64)
    with closing(load(path, SessionOptions(threads=1))) as session:
        found = session.run(lambda inputs: np.copyto(inputs["image"], pixels))["logits"]
    limit = 1e-6 if kind is np.float32 else 2e-3
    assert np.abs(found - exact).max() < limit * np.abs(exact).max()
