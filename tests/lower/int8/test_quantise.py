from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from edgekit.device.golden import difference
from edgekit.errors import SpecError
from edgekit.lower import export
from edgekit.lower.forms.canonical import canonical
from edgekit.lower.forms.integer import make_padding_explicit
from edgekit.lower.gate import parity
from edgekit.lower.int8.quantise import quantise
from edgekit.lower.network import CameraInput
from edgekit.spec import ImageSpec, Scheme

Body = Callable[..., Tensor]

aten = torch.ops.aten
quantized = torch.ops.quantized_decomposed
Q, DQ = quantized.quantize_per_tensor.default, quantized.dequantize_per_tensor.default
QC, DQC = quantized.quantize_per_channel.default, quantized.dequantize_per_channel.default
SCHEMES: tuple[Scheme, ...] = ("affine", "symmetric")


@pytest.fixture(scope="module", params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> Scheme:
    found: Scheme = request.param
    return found


@pytest.fixture(scope="module")
def result(program: ExportedProgram, tensors: list[Tensor], scheme: Scheme) -> ExportedProgram:
    return quantise(program.module(check_guards=False), tensors, scheme)


@pytest.fixture(scope="module")
def graph(result: ExportedProgram) -> fx.Graph:
    return result.module(check_guards=False).graph


def of(graph: fx.Graph, *targets: object) -> list[fx.Node]:
    return [node for node in graph.nodes if node.target in targets]


def source(node: fx.Node, position: int = 0) -> fx.Node:
    found = node.args[position]
    assert isinstance(found, fx.Node)
    return found


def values(module: nn.Module, node: fx.Node) -> Tensor:
    value: object = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    assert isinstance(value, Tensor)
    return value


def setting(node: fx.Node) -> tuple[object, ...]:
    """Scale, zero point and range of a per-tensor pair's half."""
    return tuple(node.args[1:5])


def is_camera(node: fx.Node) -> bool:
    """The normalisation, which reads the camera's pixels."""
    return "normalise" in str(source(node, 1).target) or (
        source(node, 1).op != "get_attr"
        and "normalise" in str(source(source(source(node, 1))).target)
    )


def test_every_convolution_and_linear_layer_is_quantised(graph: fx.Graph, scheme: Scheme) -> None:
    layers = of(graph, aten.conv2d.default, aten.linear.default)
    assert len(layers) == 9
    inside = [node for node in layers if not (scheme == "symmetric" and is_camera(node))]
    assert len(inside) == (9 if scheme == "affine" else 8)
    for node in inside:
        assert source(node, 0).target is DQ, node
        assert source(node, 1).target is DQC, node
    assert len(of(graph, QC)) == len(of(graph, DQC)) == len(inside)


def test_no_tensor_is_left_in_float(graph: fx.Graph) -> None:
    """Each layer's tail is requantised: no float island between two integer operators."""
    for layer in export.layers(graph):
        assert layer.node.target is DQ, layer.name
    for node in of(graph, DQ):
        assert source(node).target is Q
        assert setting(node) == setting(source(node))


def test_weights_are_symmetric_per_channel(result: ExportedProgram, graph: fx.Graph) -> None:
    module = result.module(check_guards=False)
    for node in of(graph, QC):
        weight, scales, zeros = (values(module, source(node, i)) for i in range(3))
        assert node.args[3:] == (0, -127, 127, torch.int8)
        assert scales.shape == zeros.shape == weight.shape[:1]
        assert not zeros.any()
        peaks = weight.abs().flatten(1).amax(1)
        torch.testing.assert_close(scales.float(), (peaks / 127).float(), rtol=1e-4, atol=1e-7)
        dq = next(iter(node.users))
        assert [source(dq, i).target for i in (1, 2)] == [source(node, i).target for i in (1, 2)]


def test_activations_keep_to_the_scheme(graph: fx.Graph, scheme: Scheme) -> None:
    # ONNX and TFLite have no other range to saturate at
    assert {node.args[3:6] for node in of(graph, Q)} == {(-128, 127, torch.int8)}
    zero_points = [node.args[2] for node in of(graph, Q)]
    if scheme == "symmetric":
        assert set(zero_points) == {0}
    else:
        assert len(set(zero_points)) > 2
        after_relu = [
            next(iter(node.users)) for node in graph.nodes if node.target in export.ACTIVATIONS
        ]
        assert len(after_relu) == 6
        assert {node.args[2] for node in after_relu if node.target is Q} == {-128}


def test_the_camera_enters_without_loss(graph: fx.Graph, scheme: Scheme) -> None:
    first = next(node for node in of(graph, aten.conv2d.default))
    assert is_camera(first)
    if scheme == "symmetric":
        assert source(first).target is aten.to.dtype
    else:
        assert setting(source(first)) == (1.0, -128, -128, 127)


def test_scales_are_shared_where_nothing_is_computed(graph: fx.Graph) -> None:
    pools, cats = of(graph, aten.max_pool2d.default), of(graph, aten.cat.default)
    pads = of(graph, aten.pad.default)
    assert (len(pools), len(cats), len(pads)) == (1, 1, 2)
    for node in (*pools, *pads):
        assert setting(source(node)) == setting(next(iter(node.users)))
    parts = cats[0].args[0]
    assert isinstance(parts, (list, tuple))
    found = {setting(part) for part in parts if isinstance(part, fx.Node)}
    assert len(parts) == 2
    assert found == {setting(next(iter(cats[0].users)))}


def test_int8_is_near_float(
    result: ExportedProgram, eager: CameraInput, tensors: list[Tensor], scheme: Scheme
) -> None:
    """28 to 32 dB here; a scale that is off by two costs 6 dB at least."""
    inputs = [tensor.numpy() for tensor in tensors]
    expected = parity.run_module(eager, inputs)
    found = parity.run_module(result.module(check_guards=False), inputs)
    apart = difference(expected, found)
    assert apart.snr_db > 24
    assert apart.top1_agreement > 0.85
    assert apart.snr_db < 60, "this is not int8"


def test_ranges_cover_the_calibration_images(
    program: ExportedProgram, tensors: list[Tensor]
) -> None:
    """affine is min to max: every value that was seen lies within half a step of its integer."""
    result = quantise(program.module(check_guards=False), tensors[:4], "affine")
    module = result.module(check_guards=False)
    worst: list[float] = []

    class Observe(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            value = super().run_node(n)
            if n.target is DQ and isinstance(value, Tensor):
                scale = source(n).args[1]
                assert isinstance(scale, float)
                exact = self.env[source(source(n))]
                worst.append(float((value - exact).abs().max()) / scale)
            return value

    for tensor in tensors[:4]:
        Observe(module, garbage_collect_values=False).run(tensor)
    assert len(worst) > 40
    assert max(worst) < 6, "float and int8 drift apart by little, and nothing is cut off"
    assert float(np.median(worst)) <= 0.51


class Strided(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 4, (5, 3), stride=(2, 1), padding=(2, 1))
        self.same = nn.Conv2d(4, 4, 3, padding=1)
        self.bare = nn.Conv2d(4, 5, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.bare(self.same(self.wide(x)))
        return found.mean((2, 3))


def test_padding_of_strided_convolutions_is_made_explicit(tensors: list[Tensor]) -> None:
    torch.manual_seed(0)
    program = export.export(CameraInput(Strided(), ImageSpec(32, 32)), tensors[0])
    module = program.module(check_guards=False)
    before = module(tensors[0])
    make_padding_explicit(module)
    torch.testing.assert_close(module(tensors[0]), before, rtol=1e-6, atol=1e-6)
    (pad,) = of(module.graph, aten.pad.default)
    assert pad.args[1] == [1, 1, 2, 2]
    (conv,) = pad.users
    assert "wide" in str(source(conv, 1).target)
    assert conv.args[4] == [0, 0]


class Same(nn.Module):
    """Padding by name: `same` of an odd and of an even kernel, and `valid`."""

    def __init__(self) -> None:
        super().__init__()
        self.odd = nn.Conv2d(3, 6, 3, padding="same", dilation=2)
        self.even = nn.Conv2d(6, 6, (4, 3), padding="same")
        self.valid = nn.Conv2d(6, 5, 3, padding="valid", stride=2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.valid(torch.relu(self.even(torch.relu(self.odd(x)))))
        return found.mean((2, 3))


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_padding_that_is_given_by_name_is_quantised_too(
    tensors: list[Tensor], scheme: Scheme
) -> None:
    torch.manual_seed(0)
    eager = CameraInput(Same().eval(), ImageSpec(32, 32))
    program = export.export(eager, tensors[0])
    names = [x.name for x in export.layers(program.module(check_guards=False).graph)]
    assert names[1:4] == ["network.odd (conv)", "network.even (conv)", "network.valid (conv)"]
    result = quantise(program.module(check_guards=False), tensors, scheme)
    graph = result.module(check_guards=False).graph
    assert [x.name for x in export.layers(graph)] == names
    assert len(of(graph, DQC)) == (4 if scheme == "affine" else 3)
    inputs = [tensor.numpy() for tensor in tensors]
    found = parity.run_module(result.module(check_guards=False), inputs)
    assert difference(parity.run_module(eager, inputs), found).snr_db > 24


class NoConvolution(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x).amax((2, 3))


class Pixels(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.permute(0, 3, 1, 2).float().mul(0.1).amax((2, 3))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_network_without_convolutions_is_refused(tensors: list[Tensor], scheme: Scheme) -> None:
    program = export.export(Pixels(), tensors[0])
    with pytest.raises(SpecError, match="use --precision fp16"):
        quantise(program.module(check_guards=False), tensors[:4], scheme)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_only_the_normalisation_to_quantise_is_refused(
    tensors: list[Tensor], scheme: Scheme
) -> None:
    """edgekit's own normalisation is no convolution of the user's."""
    program = export.export(CameraInput(NoConvolution(), ImageSpec(32, 32)), tensors[0])
    with pytest.raises(SpecError, match="use --precision fp16"):
        quantise(program.module(check_guards=False), tensors[:4], scheme)


class Gated(nn.Module):
    """Two convolutions and a linear layer, with a test's `body` between them."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.first, self.gate = nn.Conv2d(3, 12, 3, 2, 1), nn.Conv2d(12, 12, 1)
        self.second, self.last = nn.Conv2d(12, 8, 1), nn.Linear(8, 5)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.body(self, self.first(x)))
        logits: Tensor = self.last(x.mean((2, 3)))
        return logits


def excited(m: Gated, x: Tensor) -> Tensor:
    return x * torch.sigmoid(m.gate(x.mean((2, 3), keepdim=True)))


def hard_excited(m: Gated, x: Tensor) -> Tensor:
    return x * nn.functional.hardsigmoid(m.gate(x.mean((2, 3), keepdim=True)))


def hard_swished(m: Gated, x: Tensor) -> Tensor:
    return nn.functional.hardswish(x)


def swished(m: Gated, x: Tensor) -> Tensor:
    return nn.functional.silu(x)


def exchanged(m: Gated, x: Tensor) -> Tensor:
    return torch.cat(x.chunk(2, 1)[::-1], 1)


def shuffled(m: Gated, x: Tensor) -> Tensor:
    return nn.functional.channel_shuffle(x, 3)


def pooled(m: Gated, x: Tensor) -> Tensor:
    return nn.functional.avg_pool2d(nn.functional.max_pool2d(torch.relu(x), 3, 2, 1), 3, 1, 1)


Quantised = Callable[[Body, Scheme], fx.Graph]


@pytest.fixture(scope="module")
def quantised(tensors: list[Tensor]) -> Quantised:
    """The graph, found to be near the float one; each is made once."""
    few = tensors[:8]
    inputs = [tensor.numpy() for tensor in few]

    @cache
    def made(body: Body, scheme: Scheme) -> fx.Graph:
        torch.manual_seed(0)
        eager = CameraInput(Gated(body).eval(), ImageSpec(32, 32))
        program = canonical(export.export(eager, few[0]), few[0])
        result = quantise(program.module(check_guards=False), few, scheme)
        module = result.module(check_guards=False)
        apart = difference(parity.run_module(eager, inputs), parity.run_module(module, inputs))
        assert 28 < apart.snr_db < 60
        return module.graph

    return made


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("body", "moves"),
    [
        *((excited, False), (hard_excited, False), (hard_swished, False), (swished, False)),
        *((exchanged, True), (shuffled, True), (pooled, True)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_the_zoo_is_made_of_is_quantised(
    quantised: Quantised, scheme: Scheme, body: Body, moves: bool
) -> None:
    graph = quantised(body, scheme)
    fused = (*export.ACTIVATIONS, aten.conv2d.default)  # the latter: the symmetric normalisation
    computes = [n for n in graph.nodes if str(n.target).startswith("aten.") and n.args]
    for node in computes[computes.index(of(graph, aten.conv2d.default)[0]) + 1 :]:
        for tensor in node.all_input_nodes:
            if tensor.op == "call_function" and tensor.target not in (Q, QC):
                float_before = node.target in export.ACTIVATIONS and tensor.target in fused
                assert tensor.target in (DQ, DQC) or float_before, node
        if moves and node.target in (
            *(aten.slice.Tensor, aten.channel_shuffle.default),
            *(aten.pad.default, aten.max_pool2d.default, aten.avg_pool2d.default),
        ):
            assert setting(source(node)) == setting(next(iter(node.users)))


def gate(graph: fx.Graph) -> fx.Node:
    """The quantisation of what makes a product's second factor, between 0 and 1."""
    (product,) = of(graph, aten.mul.Tensor)
    node = source(product, 1)
    while source(node).target in (Q, DQ):
        node = source(node)
    return node


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("body", "steps"), [(excited, 256), (hard_excited, 255), (hard_swished, 255), (swished, 256)]
)
def test_a_gate_has_the_scale_that_kernels_know(
    quantised: Quantised, scheme: Scheme, body: Body, steps: int
) -> None:
    node = gate(quantised(body, scheme))
    scale, zero_point = node.args[1:3]
    if scheme == "symmetric":
        assert zero_point == 0
    else:
        assert scale == pytest.approx(1 / steps, rel=1e-6)
        assert zero_point == -128
    clipped = source(node).target is aten.hardtanh.default
    assert clipped == (steps == 255 and scheme == "symmetric"), "integers clip at 0 and 1"


@pytest.mark.parametrize(
    "activation", [nn.ReLU, nn.Hardswish, nn.SiLU, nn.Identity, nn.GELU, nn.LeakyReLU]
)
def test_an_operator_that_is_not_known_stays_float_and_right(
    make_mixed: Callable[[type[nn.Module]], nn.Module],
    tensors: list[Tensor],
    activation: type[nn.Module],
) -> None:
    module = CameraInput(make_mixed(activation), ImageSpec(32, 32))
    inputs = [tensor.numpy() for tensor in tensors]
    program = export.export(module, tensors[0])
    result = quantise(program.module(check_guards=False), tensors, "affine")
    found = parity.run_module(result.module(check_guards=False), inputs)
    assert difference(parity.run_module(module, inputs), found).snr_db > 20
