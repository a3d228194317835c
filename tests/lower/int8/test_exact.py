import math
from collections.abc import Callable
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.nn import functional as F

from edgekit import plugins
from edgekit.lower import export
from edgekit.lower.calibrate import from_folder
from edgekit.lower.forms.canonical import canonical
from edgekit.lower.forms.integer import CONVOLUTIONS, get_constant
from edgekit.lower.gate import parity
from edgekit.lower.gate.hold import quiet
from edgekit.lower.int8.exact import doubts
from edgekit.lower.int8.multiplier import at_least, at_most, is_exact
from edgekit.lower.int8.pairs import QUANTIZE, maker_of, result_of, scale_of, weights_of
from edgekit.lower.int8.quantise import quantise
from edgekit.lower.int8.weights import LARGEST_BIAS, at_least_each
from edgekit.lower.load import load_network
from edgekit.lower.network import Network
from edgekit.lower.plan import Request, make_plan
from edgekit.lower.prepare import prepare
from edgekit.lower.prove import lower
from edgekit.spec import ImageSpec, SessionOptions

aten = torch.ops.aten
multipliers = st.floats(1e-6, 8, allow_nan=False)


def as_fraction(value: float) -> tuple[int, int]:
    """j and q of `2^j / q`, q odd."""
    found = Fraction(value).limit_denominator(20_000_000)
    power = 0
    numerator, q = found.numerator, found.denominator
    while numerator % 2 == 0:
        numerator, power = numerator // 2, power + 1
    assert numerator == 1
    return power, q


@given(multipliers)
def test_a_multiplier_is_met_from_above_and_below(wanted: float) -> None:
    above, below = at_least(wanted), at_most(wanted)
    assert wanted * (1 - 1e-8) <= above <= wanted * (1 + 2 / 500)
    assert wanted * (1 + 1e-8) >= below >= wanted * (1 - 2 / 500)


@given(st.lists(multipliers, min_size=1, max_size=20))
def test_many_multipliers_at_once_are_those_of_one_at_a_time(wanted: list[float]) -> None:
    found = at_least_each(torch.tensor(wanted, dtype=torch.float64)).tolist()
    assert found == [at_least(each) for each in wanted]


@given(st.floats(1e-4, 8), st.integers(-(2**20), 2**20))
def test_no_product_is_near_a_half(wanted: float, acc: int) -> None:
    for multiplier in (at_least(wanted), at_most(wanted)):
        power, q = as_fraction(multiplier)
        assert q % 2 == 1
        assert q > 510
        product = Fraction(acc * 2**power, q)
        distance = abs(product - math.floor(product) - Fraction(1, 2))
        assert distance >= Fraction(1, 2 * q)


@pytest.fixture(scope="module")
def quantised(program: ExportedProgram, tensors: list[Tensor]) -> ExportedProgram:
    module = canonical(program, tensors[0]).module(check_guards=False)
    return quantise(module, tensors, "affine")


class Steps(fx.Interpreter):
    """Collects what each quantize node takes, in steps of its scale."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> object:
        if n.target is QUANTIZE:
            (source,) = (self.env[a] for a in n.args[:1] if isinstance(a, fx.Node))
            self.found[n.name] = source.double() / scale_of(n)
        return super().run_node(n)


def test_nothing_that_is_rounded_is_near_a_half(
    quantised: ExportedProgram, tensors: list[Tensor]
) -> None:
    steps = Steps(quantised.module(check_guards=False))
    with torch.inference_mode():
        for tensor in tensors[:8]:
            steps.run(tensor)
            for name, values in steps.found.items():
                inside = values[values.abs() < 256]
                distance = (inside - inside.floor() - 0.5).abs()
                assert float(distance.min()) > 5e-5, name


def test_weights_and_biases_are_integers_of_their_scales(quantised: ExportedProgram) -> None:
    module = quantised.module(check_guards=False)
    layers = [node for node in module.graph.nodes if node.target in CONVOLUTIONS]
    assert len(layers) == 9
    for layer in layers:
        pair, made = weights_of(layer), result_of(layer)
        assert pair is not None
        assert made is not None
        weight, scales = (get_constant(module, node).double() for node in pair[0].args[:2])
        integers = weight / scales.view(-1, *[1] * (weight.dim() - 1))
        assert (integers - integers.round()).abs().max() < 1e-4
        assert integers.abs().max() < 127.01
        source = layer.args[0]
        assert isinstance(source, fx.Node)
        unit = scales * scale_of(source)
        bias = get_constant(module, layer.args[2]).double() / unit
        assert (bias - bias.round()).abs().max() < 0.3
        assert bias.abs().max() <= LARGEST_BIAS
        for multiplier in (unit / scale_of(made)).tolist():
            assert is_exact(multiplier)


def test_a_sum_is_on_one_scale(quantised: ExportedProgram) -> None:
    nodes = [n for n in quantised.graph.nodes if n.target is QUANTIZE]
    (total,) = (n for n in nodes if maker_of(n).target is aten.add.Tensor)
    terms = [a for a in maker_of(total).args if isinstance(a, fx.Node)]
    assert {scale_of(term) for term in terms} == {scale_of(total)}


def lowered(
    program: ExportedProgram,
    network: Network,
    backend: str,
    folder: Path,
    images: list[np.ndarray],
) -> np.ndarray:
    spec = export.model_spec(network, "int8", "affine")
    with quiet():
        made = plugins.compiler(backend)(program, spec, {}, folder)
    session = plugins.loader(backend)(made.model, SessionOptions(threads=1))
    return parity.run_session(session, images)


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param(name, marks=[] if name == "onnx" else [pytest.mark.slow])
        for name in plugins.backends()
    ],
)
def test_every_runtime_gives_the_integers_of_the_program(
    quantised: ExportedProgram, mixed: Network, backend: str, tmp_path: Path
) -> None:
    needed = {"litert": "ai_edge_litert", "onnx": "onnxruntime", "coreml": "coremltools"}
    if find_spec(needed.get(backend, backend)) is None:
        pytest.skip(f"{needed.get(backend, backend)} is not installed")
    shape = export.model_spec(mixed, "int8", "affine").input.shape
    images = list(np.random.default_rng(0).integers(0, 256, (6, *shape), np.uint8))
    expected = parity.run_module(quantised.module(check_guards=False), images)
    found = lowered(quantised, mixed, backend, tmp_path, images)
    last = scale_of([n for n in quantised.graph.nodes if n.target is QUANTIZE][-1])
    assert np.abs(found - expected).max() < last / 1000


class Doubtful(nn.Module):
    def __init__(self, body: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.end = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.body(self, self.conv(x))).mean((2, 3))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (lambda m, x: F.relu(x), ""),
        (lambda m, x: x + x.relu(), ""),
        (lambda m, x: x * F.hardsigmoid(x.mean((2, 3), keepdim=True)), "hardsigmoid"),
        (lambda m, x: F.avg_pool2d(x, 3), ""),
        (lambda m, x: F.avg_pool2d(x, 2), "avg_pool2d: a mean of an even number"),
        (lambda m, x: x.sigmoid(), "sigmoid: computed in float or by a table"),
    ],
)
def test_what_may_differ_is_said(
    body: Callable[[nn.Module, Tensor], Tensor], why: str, tensors: list[Tensor]
) -> None:
    torch.manual_seed(0)
    network = Network("doubtful", Doubtful(body).eval(), ImageSpec(32, 32), tuple("abcd"), {}, "")
    eager = export.with_camera_input(network)
    program = canonical(export.export(eager, export.example(network)), export.example(network))
    result = quantise(program.module(check_guards=False), tensors[:4], "affine")
    found = doubts(result.graph)
    assert bool(found) == bool(why)
    assert not why or any(line.startswith(why) for line in found)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("scheme", ["affine", "symmetric"])
def test_published_weights_give_the_same_integers_everywhere(
    scheme: str, shared: Path, tmp_path: Path
) -> None:
    """Fifty layers deep, on photographs: a step of difference anywhere would show."""
    network = load_network(
        "mobilenet_v2", str(shared / "weights/mobilenet_v2_imagenet.safetensors")
    )
    images = from_folder(shared / "images" / "fullsize", network.image, 32)
    target = {"affine": "linux", "symmetric": "jetson"}[scheme]
    plan = make_plan(Request(target, precision="int8"))
    prepared = prepare(plan, network, images, lambda line: None)
    assert prepared.same == (scheme == "affine"), "symmetric pixels are normalised in float"
    others = ("onnx", "openvino", "litert") if scheme == "affine" else ("onnx",)
    for backend in others:
        folder = tmp_path / backend
        folder.mkdir()
        chosen = make_plan(Request(target, backend=backend, precision="int8"))
        hop = lower(prepared, chosen, folder, lambda line: None).hops[-1]
        assert hop.max_abs_error < 1e-3, "far less than a step"
        assert hop.snr_db > 100
        assert hop.edges is not None
        assert hop.edges.snr_db > 100
