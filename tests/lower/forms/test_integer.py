"""Each rewrite computes the same, and leaves what it must not touch."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn.functional import conv2d, hardsigmoid, hardswish

from edgekit.lower.forms.integer import (
    drop_clips,
    fold_hard_sigmoids,
    make_padding_explicit,
    set_constant,
    split_hard_swishes,
)

aten = torch.ops.aten
quantized = torch.ops.quantized_decomposed

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec:FutureWarning", "ignore:Using padding='same':UserWarning"
)


class Layers(nn.Module):
    """What a test's `body` may use; inputs are (1, 4, 9, 9)."""

    def __init__(self, body: Callable[["Layers", Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 1)
        self.bare = nn.Conv2d(4, 6, 1, bias=False)
        self.square = nn.Conv2d(6, 6, 1)
        self.linear = nn.Linear(9, 5)
        self.even = nn.Conv2d(4, 6, 4, padding="same", bias=False)
        self.strided = nn.Conv2d(4, 6, 3, stride=2, padding=(1, 0), dilation=2)
        self.body = body
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


Body = Callable[[Layers, Tensor], Tensor]


def rewritten(body: Body, change: Callable[[fx.GraphModule], None]) -> list[fx.Node]:
    """The operators after `change`, found to compute the same."""
    torch.manual_seed(0)
    net, x = Layers(body), 3 * torch.randn(1, 4, 9, 9)
    graph = torch.export.export(net, (x,)).module(check_guards=False)
    with torch.inference_mode():
        expected = net(x)
        change(graph)
        torch.testing.assert_close(graph(x), expected, rtol=1e-5, atol=1e-5)
    return [node for node in graph.graph.nodes if node.op == "call_function"]


def targets(nodes: list[fx.Node]) -> list[object]:
    return [node.target for node in nodes]


PADS: dict[str, tuple[Body, list[int] | None]] = {
    "strided": (lambda m, x: m.strided(x), [0, 0, 1, 1]),
    "same, even kernel": (lambda m, x: m.even(x), [1, 2, 1, 2]),
    "numbers": (lambda m, x: conv2d(x, m.even.weight, stride=2, padding=1), [1, 1, 1, 1]),
    "unbatched": (lambda m, x: m.strided(x[0]), [0, 0, 1, 1]),
    "by keyword": (
        lambda m, x: conv2d(input=x, weight=m.even.weight, bias=None, stride=3, padding=(0, 2)),
        [2, 2, 0, 0],
    ),
    "stride 1": (lambda m, x: conv2d(x, m.even.weight, padding=2), None),
    "no padding": (lambda m, x: conv2d(x, m.even.weight, stride=2), None),
    "valid": (lambda m, x: conv2d(x, m.even.weight, stride=2, padding="valid"), None),
}


@pytest.mark.parametrize(("body", "amounts"), PADS.values(), ids=PADS)
def test_padding(body: Body, amounts: list[int] | None) -> None:
    nodes = rewritten(body, make_padding_explicit)
    pads = [node for node in nodes if node.target is aten.pad.default]
    assert [pad.args[1] for pad in pads] == ([amounts] if amounts else [])
    (conv,) = [node for node in nodes if node.target is aten.conv2d.default]
    assert len(conv.args) == 7
    if amounts:
        assert conv.args[0] is pads[0]
        assert conv.args[4] == [0, 0]


@pytest.mark.parametrize("inplace", [False, True])
def test_a_hard_swish_is_a_depthwise_convolution_a_clip_and_a_product(inplace: bool) -> None:
    nodes = rewritten(lambda m, x: hardswish(m.conv(x), inplace), split_hard_swishes)
    conv, gate, clip, product = nodes
    assert targets(nodes[1:]) == [aten.conv2d.default, aten.hardtanh.default, aten.mul.Tensor]
    assert gate.args[-1] == 6, "depthwise"
    assert clip.args == (gate, 0.0, 1.0)
    assert product.args == (conv, clip)


def test_every_hard_swish_has_constants_of_its_own() -> None:
    def twice(m: Layers, x: Tensor) -> Tensor:
        return hardswish(m.square(hardswish(m.conv(hardswish(x)))))

    nodes = rewritten(twice, split_hard_swishes)
    assert targets(nodes).count(aten.mul.Tensor) == 3
    assert [n.args[-1] for n in nodes if n.target is aten.conv2d.default and len(n.args) > 6] == [
        *(4, 6, 6)
    ]


def test_a_hard_swish_of_channels_alone_becomes_one_of_a_map() -> None:
    nodes = rewritten(lambda m, x: hardswish(x.mean((2, 3))), split_hard_swishes)
    assert aten.hardswish.default not in targets(nodes)
    (conv,) = (n for n in nodes if n.target is aten.conv2d.default)
    assert conv.meta["val"].shape[2:] == (1, 1)


@pytest.mark.parametrize(
    "body",
    [
        lambda m, x: hardswish(x[0]),
        lambda m, x: hardswish(x.view(1, 2, 2, 9, 9)),
    ],
    ids=["three axes", "five axes"],
)
def test_a_hard_swish_of_no_map_stays(body: Body) -> None:
    found = targets(rewritten(body, split_hard_swishes))
    assert aten.hardswish.default in found
    assert aten.mul.Tensor not in found


def hard_sigmoid_of_two(m: Layers, x: Tensor) -> Tensor:
    return hardsigmoid(m.square(hardsigmoid(m.conv(x))))


@pytest.mark.parametrize(
    ("body", "layers"),
    [
        (lambda m, x: hardsigmoid(m.conv(x)), 1),
        (lambda m, x: hardsigmoid(m.linear(x)), 1),
        (hard_sigmoid_of_two, 2),
    ],
    ids=["convolution", "linear", "two"],
)
def test_a_hard_sigmoid_becomes_the_clip_of_its_layer(body: Body, layers: int) -> None:
    nodes = rewritten(body, fold_hard_sigmoids)
    clips = [node for node in nodes if node.target is aten.hardtanh.default]
    assert [clip.args[1:] for clip in clips] == [(0.0, 1.0)] * layers
    assert len(nodes) == 2 * layers


def read_twice(m: Layers, x: Tensor) -> Tensor:
    y: Tensor = m.conv(x)
    return hardsigmoid(y) * y


def shared_weight(m: Layers, x: Tensor) -> Tensor:
    gate: Tensor = hardsigmoid(m.conv(x)) + m.conv(x + 1)
    return gate


def shared_bias(m: Layers, x: Tensor) -> Tensor:
    return hardsigmoid(m.conv(x)) + conv2d(x, m.bare.weight, m.conv.bias)


def made_weight(m: Layers, x: Tensor) -> Tensor:
    return hardsigmoid(conv2d(x, m.conv.weight - m.conv.weight.mean(), m.conv.bias))


@pytest.mark.parametrize(
    "body",
    [
        lambda m, x: hardsigmoid(x),
        lambda m, x: hardsigmoid(torch.relu(m.conv(x))),
        lambda m, x: hardsigmoid(m.bare(x)),
        *(read_twice, shared_weight, shared_bias, made_weight),
    ],
    ids=[
        *("no layer", "activation between", "no bias"),
        *("layer read twice", "shared weight", "shared bias", "weight that is computed"),
    ],
)
def test_other_hard_sigmoids_stay(body: Body) -> None:
    found = targets(rewritten(body, fold_hard_sigmoids))
    assert aten.hardsigmoid.default in found
    assert aten.hardtanh.default not in found


def quantised(scale: float, zero_point: int, clip: Callable[[Tensor], Tensor]) -> fx.GraphModule:
    class Quantises(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            clipped = clip(x)
            found: Tensor = quantized.quantize_per_tensor.default(
                clipped, scale, zero_point, -128, 127, torch.int8
            )
            return found

    x = torch.zeros(1, 2, 3000)
    return torch.export.export(Quantises(), (x,)).module(check_guards=False)


def test_a_clip_that_the_integers_do_themselves_is_dropped() -> None:
    module = quantised(1 / 255, -128, nn.Hardtanh(0.0, 1.0))
    x = torch.linspace(-1, 2, 6000).view(1, 2, -1)
    before = module(x)
    drop_clips(module)
    assert aten.hardtanh.default not in [node.target for node in module.graph.nodes]
    assert torch.equal(module(x), before)
    assert (int(before.min()), int(before.max())) == (-128, 127)


@pytest.mark.parametrize(
    ("scale", "zero_point", "clip"),
    [
        (1 / 127, -128, nn.Hardtanh(0.0, 1.0)),
        (1 / 255, 0, nn.Hardtanh(0.0, 1.0)),
        (1 / 255, -128, nn.Hardtanh(0.0, 0.5)),
        (1 / 255, -128, nn.Hardtanh(-1.0, 1.0)),
        (1 / 255, -128, nn.ReLU()),
    ],
    ids=["wider", "another zero", "lower ceiling", "lower floor", "relu"],
)
def test_other_clips_stay(scale: float, zero_point: int, clip: Callable[[Tensor], Tensor]) -> None:
    module = quantised(scale, zero_point, clip)
    before = [node.target for node in module.graph.nodes]
    drop_clips(module)
    assert [node.target for node in module.graph.nodes] == before


def test_a_constant_that_others_read_is_changed_before_the_first_of_some() -> None:
    graph = fx.Graph()
    shared = graph.get_attr("scale")
    calls = [graph.call_function(torch.add, (shared, n)) for n in range(6)]
    graph.output(tuple(calls))
    model = fx.GraphModule({"scale": torch.zeros(())}, graph)
    set_constant(model, shared, torch.ones(()), set(calls[1::2]))
    graph.lint()
    model.recompile()
    assert [int(value) for value in model()] == [0, 2, 2, 4, 4, 6]
