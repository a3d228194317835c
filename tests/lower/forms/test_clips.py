"""Each spelling of a clip becomes the one that is known, and computes the same."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.lower.forms.canonical import canonical

Body = Callable[[Tensor], Tensor]

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")


class Bare(nn.Module):
    def __init__(self, body: Body) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x * 1.0)


def becomes(body: Body) -> list[str]:
    """The operators after the product, by name; found to compute the same."""
    x = torch.linspace(-8, 8, 300).reshape(1, 3, 10, 10)
    module = Bare(body).eval()
    program = canonical(torch.export.export(module, (x,)), x)
    found = program.module(check_guards=False)(x)
    torch.testing.assert_close(found, module(x.clone()), rtol=1e-6, atol=1e-6)
    called = [n for n in program.graph.nodes if n.op == "call_function"]
    return [str(n.target).removeprefix("aten.").partition(".")[0] for n in called[1:]]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (lambda x: F.relu6(x), ["hardtanh"]),
        (lambda x: F.relu6(x, inplace=True), ["hardtanh"]),
        (lambda x: x.clamp(0, 6), ["hardtanh"]),
        (lambda x: x.clamp_(0, 6), ["hardtanh"]),
        (lambda x: torch.clip(x, min=-1, max=1), ["hardtanh"]),
        (lambda x: x.clamp(min=0), ["relu"]),
        (lambda x: torch.clamp_min(x, 0.0), ["relu"]),
        (lambda x: F.relu6(x + 3) / 6, ["hardsigmoid"]),
        (lambda x: (x + 3).clamp(0, 6) * (1 / 6), ["hardsigmoid"]),
        (lambda x: x.add(3).clamp_(0, 6).div_(6), ["hardsigmoid"]),
        (lambda x: x * (F.relu6(x + 3) / 6), ["hardswish"]),
        (lambda x: x * F.relu6(x + 3) / 6, ["hardswish"]),
        (lambda x: F.relu6(x + 3) * x * (1 / 6), ["hardswish"]),
        (lambda x: x * F.hardsigmoid(x), ["hardswish"]),
        (lambda x: F.hardsigmoid(x) * x, ["hardswish"]),
    ],
)
def test_a_clip_has_one_spelling(body: Body, expected: list[str]) -> None:
    assert becomes(body) == expected


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (lambda x: x.clamp(max=6), ["clamp"]),
        (lambda x: x.clamp(min=1), ["clamp"]),
        (lambda x: x.clamp_max(6), ["clamp_max"]),
        (lambda x: x.clamp(6, 0), ["clamp"]),
        (lambda x: torch.clamp(x, x - 1, x + 1), ["sub", "add", "clamp"]),
        (lambda x: F.relu6(x + 2) / 6, ["add", "hardtanh", "div"]),
        (lambda x: F.relu6(x + 3) / 5, ["add", "hardtanh", "div"]),
        (lambda x: F.relu6(torch.add(x, 3, alpha=2)) / 6, ["add", "hardtanh", "div"]),
        (lambda x: (x + 3).clamp(0, 5) / 6, ["add", "hardtanh", "div"]),
        (lambda x: torch.div(x.clamp(0, 6), 6, rounding_mode="floor"), ["hardtanh", "div"]),
        (lambda x: x.abs() * F.hardsigmoid(x), ["abs", "hardsigmoid", "mul"]),
        (lambda x: x.abs() * F.relu6(x + 3) / 6, ["abs", "add", "hardtanh", "mul", "div"]),
    ],
)
def test_what_only_looks_like_it_stays(body: Body, kept: list[str]) -> None:
    assert becomes(body) == kept
