"""What does not depend on the image becomes a constant; what does, or is random, does not."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.lower.forms.constants import fold_constants


class Made(nn.Module):
    """Weights that are made in forward()."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(4, 3, 1, 1))
        self.register_buffer("steps", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        first, second = (self.weight - self.weight.mean()).chunk(2)
        ramp = torch.linspace(-1, 1, x.shape[-1]).expand(1, 4, x.shape[-2], x.shape[-1])
        return F.conv2d(x, torch.cat([second, first])) + ramp + self.weight.sum()


def graph_of(module: nn.Module, x: Tensor) -> torch.fx.GraphModule:
    return torch.export.export(module.eval(), (x,)).module(check_guards=False)


def called(graph: torch.fx.GraphModule) -> list[str]:
    return [
        str(node.target).removeprefix("aten.").partition(".")[0]
        for node in graph.graph.nodes
        if node.op == "call_function"
    ]


def test_what_no_image_has_a_part_in_is_computed_once() -> None:
    module, x = Made(), torch.randn(1, 3, 5, 7)
    graph = graph_of(module, x)
    fold_constants(graph)
    graph.recompile()
    assert called(graph) == ["conv2d", "add", "add"]
    assert torch.equal(graph(x), module(x))


def test_random_numbers_are_not_frozen() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.rand(3)

    graph = graph_of(Noisy(), torch.zeros(3))
    fold_constants(graph)
    assert called(graph) == ["rand", "add"]


def test_a_buffer_that_is_written_is_not_frozen() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("steps", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            before = self.get_buffer("steps") * 2
            self.get_buffer("steps").add_(1)
            return x + before + self.get_buffer("steps")

    graph = graph_of(Counting(), torch.zeros(1))
    fold_constants(graph)
    assert "mul" in called(graph)


def test_a_constant_that_is_large_stays_computed() -> None:
    class Large(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.ones(1, 1).expand(3000, 3000).sum(0, keepdim=True).expand(3000, -1)

    graph = graph_of(Large(), torch.zeros(3000, 3000))
    fold_constants(graph)
    assert "expand" in called(graph)
