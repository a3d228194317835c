"""Integer weights behind float arithmetic: the integers, every backend, refusals."""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from edgekit import plugins
from edgekit.errors import InputError, ParityError, SpecError
from edgekit.lower import export
from edgekit.lower.calibrate import Images
from edgekit.lower.int8.pairs import weights_of
from edgekit.lower.int8.rounding import moments, round_rows
from edgekit.lower.int8.weight_only import channel_scales, quantise_weights
from edgekit.lower.network import Network
from edgekit.lower.plan import Plan, Request, make_plan
from edgekit.lower.prepare import Prepared, prepare
from edgekit.lower.prove import Proof, lower
from edgekit.spec import WEIGHT_ONLY, Artifact, ModelSpec, Precision, SessionOptions
from targets.weights import bake

aten, quantized = torch.ops.aten, torch.ops.quantized_decomposed
LARGEST = {"int8-weights": 127, "int4-weights": 7}

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec:FutureWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning"
)


def silent(line: str) -> None:
    pass


def test_a_scale_is_the_one_of_the_least_squared_error() -> None:
    weight = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    weight[1] *= 100
    weight[2, 0] = 30.0  # what an outlier costs the others
    weight[3] = 0.0

    def error(scales: Tensor) -> Tensor:
        integers = (weight / scales[:, None]).round().clamp(-7, 7)
        return (integers * scales[:, None] - weight).square().sum(1)

    found, whole = channel_scales(weight, 7), weight.abs().amax(1) / 7
    assert bool((error(found)[[0, 1, 2, 4]] <= error(whole)[[0, 1, 2, 4]]).all())
    assert float(found[0]) < float(whole[0])
    assert found[1] / found[0] > 30, "each channel has a scale of its own"
    assert bool(found.isfinite().all())
    assert bool((found > 0).all())


def test_rounding_for_the_outputs_beats_rounding_each_weight() -> None:
    seeded = torch.Generator().manual_seed(0)
    mixing = torch.randn(150, 150, generator=seeded, dtype=torch.float64) / 4 + torch.eye(150)
    inputs = mixing @ torch.randn(150, 2000, generator=seeded, dtype=torch.float64)
    rows = torch.randn(6, 150, generator=seeded)
    scales = channel_scales(rows, 7)
    plain = (rows / scales[:, None]).round().clamp(-7, 7).double()

    def error(integers: Tensor) -> float:
        return float(((integers * scales[:, None] - rows) @ inputs).square().mean())

    found = round_rows(rows, scales, 7, inputs @ inputs.T)
    assert bool((found == found.round()).all())
    assert float(found.abs().max()) <= 7
    assert error(found) < 0.7 * error(plain)
    assert torch.equal(round_rows(rows, scales, 7, torch.eye(150).double()), plain)


def test_moments_are_of_what_a_channels_weights_are_multiplied_with() -> None:
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    graph = torch.export.export(layer, (x,)).module(check_guards=False).graph
    (node,) = [n for n in graph.nodes if n.target is aten.conv2d.default]
    with torch.no_grad():
        energy = layer(x)[0].flatten(1).square().sum(1)
        rows = layer.weight.flatten(1).double()
        found = moments(node, [x])
        assert found.shape == (2, 18, 18)
        told = torch.stack([row @ found[n // 3] @ row for n, row in enumerate(rows)])
    torch.testing.assert_close(told.float(), energy)


@pytest.fixture(scope="module")
def prepared(mixed: Network, images: Images) -> Mapping[Precision, Prepared]:
    """Of each precision; not to be changed."""
    plans = {p: make_plan(Request("linux", precision=p)) for p in WEIGHT_ONLY}
    return {p: prepare(plan, mixed, images, silent) for p, plan in plans.items()}


def weights(program: ExportedProgram) -> Iterator[tuple[fx.Node, Any]]:
    """Each layer with weights of its own, and its integers' largest value, if it has any."""
    for node in program.graph.nodes:
        if node.target in (aten.conv2d.default, aten.linear.default):
            pair = weights_of(node)
            yield node, pair[0].args[5] if pair else None


def test_which_layers_have_which_integers(prepared: Mapping[Precision, Prepared]) -> None:
    eights = [largest for _, largest in weights(prepared["int8-weights"].program)]
    assert eights == [None, *[127] * 8], "the normalisation is ours, and stays float"
    program = prepared["int4-weights"].program
    values = [n.args[1].meta["val"] for n, _ in weights(program) if isinstance(n.args[1], fx.Node)]
    sizes = [value[0].numel() >= 64 for value in values]
    fours = [largest for _, largest in weights(program)]
    assert fours == [None, *(7 if many else 127 for many in sizes[1:])]
    assert prepared["int4-weights"].notes == (
        "int4 weights in 2 layers and int8 weights in 6 layers; float32 arithmetic",
    )


def test_each_precision_is_as_near_as_its_bits_allow(
    prepared: Mapping[Precision, Prepared],
) -> None:
    hops = {p: each.gate.hops[-1] for p, each in prepared.items()}
    assert {hop.name for hop in hops.values()} == {"exported -> quantised"}
    assert hops["int8-weights"].snr_db > 36
    assert 24 < hops["int4-weights"].snr_db < hops["int8-weights"].snr_db


BACKENDS: list[Any] = [
    ("onnx", "int8-weights", {}),
    ("onnx", "int4-weights", {}),
    ("openvino", "int8-weights", {}),
    ("openvino", "int4-weights", {}),
    ("litert", "int8-weights", {}),
    pytest.param("litert", "int4-weights", {}, marks=pytest.mark.slow),
    pytest.param("coreml", "int8-weights", {}, marks=pytest.mark.slow),
    pytest.param(
        "coreml", "int4-weights", {"deployment_target": "iOS18"}, marks=pytest.mark.slow
    ),
]  # fmt: skip


@pytest.mark.parametrize(("backend", "precision", "options"), BACKENDS)
def test_a_backend_computes_with_the_same_integers(
    prepared: Mapping[Precision, Prepared],
    backend: str,
    precision: Precision,
    options: dict[str, str],
    tmp_path: Path,
) -> None:
    target = "ios" if backend == "coreml" else "linux"
    plan = make_plan(Request(target, backend=backend, precision=precision, options=options))
    given = prepared[precision]
    proof = lower(given, plan, tmp_path, silent)
    assert proof.hops[-1].name == "quantised -> lowered"
    assert proof.hops[-1].snr_db > 100, "float arithmetic on the same weights"
    if backend == "litert":
        said = delegated(proof.artifact.model)
        assert said[0] < said[1] - 1 if precision == "int4-weights" else said[0] == said[1] - 1
    if backend in READERS:
        module = given.program.module(check_guards=False)
        expected = Counter(fingerprint(w.values.numpy(), w.bits) for w in bake(module))
        assert Counter(READERS[backend](proof.artifact.model)) == expected


def delegated(model: Path) -> tuple[int, int]:
    """How many operators XNNPACK runs, of how many: as was forecast, and as the session says."""
    found = plugins.placer("litert")(model, SessionOptions())
    with closing(plugins.loader("litert")(model, SessionOptions())) as session:
        said = re.search(r"runs (\d+) of (\d+) operators", session.notes[0])
    assert said is not None
    forecast = sum(op.partition >= 0 for op in found.operators), len(found.operators)
    assert forecast == (int(said[1]), int(said[2]))
    return forecast


def fingerprint(values: np.ndarray, bits: int) -> tuple[int, bytes]:
    """The same for every order of axes."""
    return bits, np.sort(values.astype(np.int8).reshape(-1)).tobytes()


def in_onnx(model: Path) -> Iterator[tuple[int, bytes]]:
    import onnx

    kinds = {onnx.TensorProto.INT8: 8, onnx.TensorProto.INT4: 4}
    graph = onnx.load_model(model).graph
    weights = {n.input[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    for each in graph.initializer:
        if each.name in weights:
            values, bits = onnx.numpy_helper.to_array(each), kinds[each.data_type]
            assert len(each.raw_data) == (values.size * bits + 7) // 8
            yield fingerprint(values, bits)


def in_litert(model: Path) -> Iterator[tuple[int, bytes]]:
    from ai_edge_litert import schema_py_generated as schema

    file = schema.ModelT.InitFromPackedBuf(model.read_bytes(), 0)
    for tensor in file.subgraphs[0].tensors:
        data = file.buffers[tensor.buffer].data
        if tensor.type == schema.TensorType.INT8:
            yield fingerprint(np.asarray(data, np.uint8).view(np.int8), 8)
        elif tensor.type == schema.TensorType.INT4:
            halves = np.stack([data & 15, data >> 4], -1).reshape(-1)[: np.prod(tensor.shape)]
            yield fingerprint((halves.astype(np.int8) ^ 8) - 8, 4)


READERS: dict[str, Callable[[Path], Iterator[tuple[int, bytes]]]] = {
    "onnx": in_onnx,
    "openvino": in_onnx,
    "litert": in_litert,
}


def lowered_wrongly(given: Prepared, layer: str, factor: float, folder: Path) -> Proof:
    """The scale of the first channel of a layer is read as another one."""
    plan: Plan = make_plan(Request("linux", precision="int8-weights"))

    def compile(program: Any, spec: ModelSpec, options: Any, out: Path) -> Artifact:
        module = program.module(check_guards=False)
        for node, _ in list(weights(program.module(check_guards=False))):  # names are the same
            (real,) = [n for n in module.graph.nodes if n.name == node.name]
            pair = weights_of(real)
            if pair is not None and layer in str(pair[0].args[0]):
                scale: Any = pair[1].args[1]
                value = getattr(module, scale.target).clone()
                value[0] *= factor
                module.register_buffer("wrong_scale", value)
                with module.graph.inserting_before(pair[1]):
                    wrong = module.graph.get_attr("wrong_scale")
                pair[1].args = (pair[1].args[0], wrong, *pair[1].args[2:])
        module.recompile()
        sample = torch.zeros(spec.input.shape, dtype=torch.uint8)
        return plan.compile(torch.export.export(module, (sample,)), spec, options, out)

    return lower(given, dataclasses.replace(plan, compile=compile), folder, silent)


@pytest.mark.slow
def test_one_wrong_scale_is_refused_and_its_layer_named(
    prepared: Mapping[Precision, Prepared], tmp_path: Path
) -> None:
    given = prepared["int8-weights"]
    with pytest.raises(ParityError, match="'quantised -> lowered'") as refused:
        lowered_wrongly(given, "left_0", 1.05, tmp_path)
    assert "first diverging layer: network.left.0 (conv)" in str(refused.value)


@pytest.mark.parametrize("precision", WEIGHT_ONLY)
@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Request("android", backend="executorch"), "cannot be had of executorch: XNNPACK takes no"),
        (Request("jetson"), "cannot be had of onnx: TensorRT takes no"),
    ],
    ids=["executorch", "jetson"],
)
def test_what_cannot_hold_them_says_what_can(
    request_: Request, says: str, precision: Precision
) -> None:
    with pytest.raises(InputError, match=says) as refused:
        make_plan(dataclasses.replace(request_, precision=precision))
    assert "use --precision fp16, or another backend: litert" in str(refused.value)


@pytest.mark.parametrize(
    ("precision", "target", "says"),
    [("int4-weights", "iOS17", "iOS18"), ("int8-weights", "iOS16", "'iOS17'")],
)
def test_core_ml_says_which_release_has_them(
    program: ExportedProgram,
    mixed: Network,
    precision: Precision,
    target: str,
    says: str,
    tmp_path: Path,
) -> None:
    plan = make_plan(Request("ios", precision=precision))
    spec = export.model_spec(mixed, precision, "affine")
    with pytest.raises(SpecError, match=says):
        plan.compile(program, spec, {"deployment_target": target}, tmp_path)


class Brightness(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.float().mean(dim=(1, 2))


def test_a_network_without_weights_is_refused() -> None:
    pixels = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    plain = torch.export.export(Brightness(), (pixels,))
    with pytest.raises(SpecError, match="use --precision fp16"):
        quantise_weights(plain, [pixels], "int8-weights")
