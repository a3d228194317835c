"""The forecasts for ONNX: for the CPU provider against its profile, for TensorRT by its rules."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import BundleError, SpecError
from edgekit.spec import Placement, SessionOptions

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402  after the check that it can be

from targets.onnx.placement import place  # noqa: E402

TENSORRT = SessionOptions(providers=("TensorrtExecutionProvider", "CPUExecutionProvider"))
COPIES = {"Cast", "Transpose", "Reshape", "QuantizeLinear", "DequantizeLinear"}


class Chain:
    """A graph whose operators follow each other, 1x4x8x8 all along."""

    def __init__(self, quantised: bool, zero_point: int = 0, dtype: Any = np.uint8):
        self.nodes: list[Any] = []
        self.values: dict[str, np.ndarray] = {}
        self.quantised, self.zero_point, self.dtype = quantised, zero_point, dtype
        self.last = "image"
        self.add("Cast", to=TensorProto.FLOAT)

    def add(self, kind: str, *values: np.ndarray, hand_on: bool = True, **options: Any) -> None:
        count = len(self.nodes)
        names = [f"v{count}_{i}" for i in range(len(values))]
        self.values.update(zip(names, values, strict=True))
        made = f"{kind}{count}"
        self.nodes.append(helper.make_node(kind, [self.last, *names], [made], made, **options))
        self.last = made
        if self.quantised and hand_on:
            self._requantise()

    def conv(self, hand_on: bool = True) -> None:
        rng = np.random.default_rng(len(self.nodes))
        weight = rng.normal(0, 1, (4, 4, 1, 1)).astype(np.float32)
        if not self.quantised:
            return self.add("Conv", weight, hand_on=hand_on)
        name = f"w{len(self.nodes)}"
        self.values[f"{name}_q"] = rng.integers(-127, 128, (4, 4, 1, 1)).astype(np.int8)
        self.values[f"{name}_s"] = np.full(4, 0.01, np.float32)
        self.values[f"{name}_z"] = np.zeros(4, np.int8)
        given = [f"{name}_q", f"{name}_s", f"{name}_z"]
        self.nodes.append(helper.make_node("DequantizeLinear", given, [name], axis=0))
        made = f"Conv{len(self.nodes)}"
        self.nodes.append(helper.make_node("Conv", [self.last, name], [made], made))
        self.last = made
        return self._requantise() if hand_on else None

    def _requantise(self) -> None:
        name = f"q{len(self.nodes)}"
        self.values[f"{name}_s"] = np.array(0.05, np.float32)
        self.values[f"{name}_z"] = np.array(self.zero_point, self.dtype)
        scales = [f"{name}_s", f"{name}_z"]
        self.nodes.append(helper.make_node("QuantizeLinear", [self.last, *scales], [name]))
        self.nodes.append(helper.make_node("DequantizeLinear", [name, *scales], [f"{name}_d"]))
        self.last = f"{name}_d"

    def write(self, path: Path) -> Path:
        shape = (1, 4, 8, 8)
        self.nodes.append(helper.make_node("Identity", [self.last], ["logits"], "end"))
        graph = helper.make_graph(
            self.nodes,
            "chain",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [*"nchw"])],
            [numpy_helper.from_array(value, name) for name, value in self.values.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.checker.check_model(model)
        onnx.save(model, path)
        return path


def computed_in_float(model: Path, folder: Path) -> Counter[str]:
    """Kernels that ONNX Runtime really ran on floats, by its profile."""
    settings = onnxruntime.SessionOptions()
    settings.enable_profiling, settings.intra_op_num_threads = True, 1
    settings.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(
        model.read_bytes(), settings, providers=["CPUExecutionProvider"]
    )
    given = session.get_inputs()[0]
    session.run(None, {given.name: np.zeros(given.shape, np.uint8)})
    events = json.loads(Path(session.end_profiling()).read_text())
    ran = [event["args"] for event in events if event["name"].endswith("_kernel_time")]
    assert {args["provider"] for args in ran} == {"CPUExecutionProvider"}
    return Counter(
        args["op_name"]
        for args in ran
        if args["op_name"] not in COPIES and "float" in args["input_type_shape"][0]
    )


def fallen(found: Placement) -> Counter[str]:
    return Counter(op.kind for op in found.fallen)


PADS = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
ROWS = np.array([1, 8, 4, 8], np.int64)


@pytest.mark.parametrize(
    ("kinds", "zero_point", "expected"),
    [
        ("conv conv", 0, []),
        ("conv+Relu conv", 0, []),
        ("conv HardSwish conv", 128, ["HardSwish"]),
        ("conv Pad conv", 128, ["Pad"]),
        ("conv Sigmoid Add GlobalAveragePool", 128, []),
        ("conv Reshape Transpose", 128, []),
    ],
)
def test_the_cpu_provider_computes_in_float_what_was_forecast(
    kinds: str, zero_point: int, expected: list[str], tmp_path: Path
) -> None:
    chain = Chain(quantised=True, zero_point=zero_point)
    values: dict[str, list[np.ndarray]] = {"Pad": [PADS], "Reshape": [ROWS]}
    for kind in kinds.split():
        if kind.startswith("conv"):
            chain.conv(hand_on=kind == "conv")
        kind = kind.removeprefix("conv").removeprefix("+")
        if kind == "Add":
            chain.nodes.append(helper.make_node("Add", [chain.last, chain.last], ["twice"], "Add"))
            chain.last = "twice"
            chain._requantise()
        elif kind:
            chain.add(kind, *values.get(kind, []))
    model = chain.write(tmp_path / "model.onnx")
    found = place(model, SessionOptions())
    assert sorted(fallen(found)) == expected
    assert sorted(computed_in_float(model, tmp_path) - Counter({"Mul": 1})) == [
        kind.replace("HardSwish", "HardSigmoid") for kind in expected
    ]
    assert found.partitions == (2 if expected else 1)
    assert found.accelerator == "ONNX Runtime's CPU provider"


def test_in_float_the_cpu_provider_takes_all(tmp_path: Path) -> None:
    chain = Chain(quantised=False)
    for kind in ("conv", "HardSwish", "Erf"):
        chain.conv() if kind == "conv" else chain.add(kind)
    found = place(chain.write(tmp_path / "model.onnx"), SessionOptions())
    assert (found.fallen, found.partitions, found.crossing_bytes) == ((), 1, 0)


def test_fp16_is_computed_in_float32(root: Path, tmp_path: Path) -> None:
    model = root / "tests" / "bundles" / "v1" / "linux-fp16" / "model.onnx"
    found = place(model, SessionOptions())
    ran = computed_in_float(model, tmp_path)
    assert fallen(found)["Conv"] == ran["Conv"] == 53
    assert "no fp16 kernel" in found.fallen[0].reason


def test_tensorrt_takes_what_nvidia_lists(tmp_path: Path) -> None:
    chain = Chain(quantised=False)
    for kind in ("conv", "Relu", "Hardmax", "conv", "HardSwish"):
        chain.conv() if kind == "conv" else chain.add(kind)
    found = place(chain.write(tmp_path / "model.onnx"), TENSORRT)
    (refused,) = found.fallen
    assert (refused.kind, refused.reason) == ("Hardmax", "TensorRT has no Hardmax")
    assert found.partitions == 2
    assert found.crossing_bytes == 3 * 4 * 4 * 64, "in, out of Hardmax, and the pixels as floats"
    assert found.operators[0].border
    assert "forecast" in found.basis


def test_tensorrt_has_no_zero_points(tmp_path: Path) -> None:
    for zero_point, dtype, fits in ((0, np.int8, True), (3, np.int8, False), (0, np.uint8, False)):
        chain = Chain(quantised=True, zero_point=zero_point, dtype=dtype)
        chain.conv()
        found = place(chain.write(tmp_path / "model.onnx"), TENSORRT)
        assert (found.fallen == ()) == fits
        assert all("zero point" in op.reason for op in found.fallen)


def test_what_cannot_be_told_is_said(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    with pytest.raises(SpecError, match="what CUDAExecutionProvider takes is not known"):
        place(model, SessionOptions(providers=("CUDAExecutionProvider",)))
    with pytest.raises(BundleError, match="cannot read the model"):
        place(model, SessionOptions())
    model.write_bytes(b"not a model")
    with pytest.raises(BundleError, match="is not an ONNX model"):
        place(model, SessionOptions())
