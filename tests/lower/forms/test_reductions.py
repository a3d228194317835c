"""Each spelling of a pool over the whole map, and of an expansion, computes the same."""

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
    torch.manual_seed(0)
    x = torch.randn(1, 6, 6, 12)
    module = Bare(body).eval()
    program = canonical(torch.export.export(module, (x,)), x)
    found = program.module(check_guards=False)(x)
    torch.testing.assert_close(found, module(x), rtol=1e-6, atol=1e-6)
    called = [n for n in program.graph.nodes if n.op == "call_function"]
    return [str(n.target).removeprefix("aten.").partition(".")[0] for n in called[1:]]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (lambda x: F.adaptive_max_pool2d(x, 1), ["max_pool2d"]),
        (lambda x: F.adaptive_max_pool2d(x, (2, 3)), ["max_pool2d"]),
        (lambda x: F.adaptive_avg_pool2d(x, (2, 3)), ["avg_pool2d"]),
        (lambda x: F.adaptive_avg_pool2d(x, 1), ["mean"]),
        (lambda x: F.avg_pool2d(x, (6, 12)), ["mean"]),
        (lambda x: F.avg_pool2d(x, 6), ["avg_pool2d"]),
        (lambda x: x.amax((2, 3)), ["max_pool2d", "reshape"]),
        (lambda x: x.amax((-1, -2), keepdim=True), ["max_pool2d"]),
        (lambda x: F.pad(x, (1, 1, 2, 0), "circular"), ["slice", "slice", "cat", "slice", "cat"]),
        (lambda x: F.pad(x, (0, 12, 0, 0), "circular"), ["cat", "cat"]),
        (lambda x: x / x.mean(1, True).expand_as(x), ["mean", "div"]),
        (lambda x: x.mean(1, True).expand(-1, 6, -1, -1) + x, ["mean", "add"]),
    ],
)
def test_a_whole_map_has_one_spelling(body: Body, expected: list[str]) -> None:
    assert becomes(body) == expected


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (lambda x: F.adaptive_avg_pool2d(x, 4), ["adaptive_avg_pool2d"]),
        (
            lambda x: F.adaptive_max_pool2d(x, 4),
            ["adaptive_max_pool2d", *["<built-in function getitem>"] * 2],
        ),
        (lambda x: x.amax((1, 2)), ["amax"]),
        (lambda x: x.amax(), ["amax"]),
        (lambda x: x.amax(2, keepdim=True), ["amax"]),
        (lambda x: x.mean(2, True).expand_as(x), ["mean", "expand_as"]),
        (lambda x: torch.cat([x, x.mean(2, True).expand_as(x)]), ["mean", "expand_as", "cat"]),
        (
            lambda x: x.mean(2, True).expand_as(x) * x.mean(3, True),
            ["mean", "expand_as", "mean", "mul"],
        ),
    ],
)
def test_what_only_looks_like_it_stays(body: Body, kept: list[str]) -> None:
    assert becomes(body) == kept


def test_a_maximum_whose_place_is_asked_for_stays() -> None:
    def body(x: Tensor) -> Tensor:
        value, place = F.adaptive_max_pool2d(x, 1, return_indices=True)
        return value + place

    assert "max_pool2d" not in becomes(body)
