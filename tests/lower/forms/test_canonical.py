"""Each rewrite, on what a network may be written as, and on what only looks like it."""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.functional import (
    adaptive_avg_pool2d,
    avg_pool2d,
    dropout,
    hardsigmoid,
    max_pool2d,
    relu,
    relu_,
    silu,
)

from edgekit.lower.forms.canonical import canonical

Body = Callable[[Tensor], Tensor]

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")


class Around(nn.Module):
    """A convolution, (1, 3, 8, 8) -> (1, 12, 8, 8), and what a test does with its output."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 1)
        self.body = body
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.conv(x))


def operators(body: Body) -> Counter[str]:
    """What `body` becomes, found to compute the same."""
    torch.manual_seed(0)
    module, x = Around(body), torch.randn(1, 3, 8, 8)
    program = canonical(torch.export.export(module, (x,)), x)
    same(program, module, torch.randn(1, 3, 8, 8))
    return counts(program)


def same(program: ExportedProgram, module: nn.Module, x: Tensor) -> None:
    with torch.inference_mode():
        expected, found = module(x), program.module(check_guards=False)(x)
    assert expected.shape == found.shape
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def counts(program: ExportedProgram) -> Counter[str]:
    called = [n.target for n in program.graph.nodes if n.op == "call_function"]
    return Counter(
        str(getattr(target, "__name__", target)).partition(".")[0]
        for target in called
        if target is not torch.ops.aten.conv2d.default
    )


def grouped(x: Tensor, groups: int = 3) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w)


POOLED = {
    "adaptive": lambda x: adaptive_avg_pool2d(x, 1),
    "adaptive pair": lambda x: adaptive_avg_pool2d(x, (1, 1)),
    "mean": lambda x: x.mean((2, 3), keepdim=True),
    "swapped": lambda x: x.mean((3, 2), True),
    "from behind": lambda x: x.mean((-2, -1), keepdim=True),
    "one of each": lambda x: x.mean(dim=(2, -1), keepdim=True),
}


@pytest.mark.parametrize("body", POOLED.values(), ids=POOLED)
def test_global_pooling_is_one_mean(body: Body) -> None:
    assert operators(body) == {"mean": 1}


@pytest.mark.parametrize("dims", [(2, 3), (-1, -2), (-2, 3)])
def test_a_mean_without_its_axes_keeps_them_first(dims: tuple[int, int]) -> None:
    assert operators(lambda x: x.mean(dims)) == {"mean": 1, "reshape": 1}
    assert operators(lambda x: adaptive_avg_pool2d(x, 1).flatten(1)) == {"mean": 1, "flatten": 1}


OTHER_POOLS = {
    "adaptive to 2": (lambda x: adaptive_avg_pool2d(x, 2), {"avg_pool2d": 1}),
    "rows": (lambda x: adaptive_avg_pool2d(x, (1, None)), {"avg_pool2d": 1}),
    "unbatched": (
        lambda x: adaptive_avg_pool2d(x[0], 1),
        {"select": 1, "adaptive_avg_pool2d": 1},
    ),
    "one axis": (lambda x: x.mean(3), {"mean": 1}),
    "channels": (lambda x: x.mean((1, 2)), {"mean": 1}),
    "all": (lambda x: x.mean(), {"mean": 1}),
    "five axes": (lambda x: grouped(x).mean((2, 3)), {"reshape": 1, "mean": 1}),
    "five axes from behind": (lambda x: grouped(x).mean((-2, -1)), {"reshape": 1, "mean": 1}),
    "three axes": (lambda x: x.flatten(2).mean((1, 2)), {"flatten": 1, "mean": 1}),
    "a type": (lambda x: x.mean((2, 3), dtype=torch.float32), {"mean": 1}),
}


@pytest.mark.parametrize(("body", "wanted"), OTHER_POOLS.values(), ids=OTHER_POOLS)
def test_other_means_stay(body: Body, wanted: dict[str, int]) -> None:
    assert operators(body) == wanted


SHUFFLES: dict[str, Body] = {
    "reshape": lambda x: grouped(x).transpose(1, 2).reshape(1, 12, 8, 8),
    "contiguous": lambda x: grouped(x).transpose(1, 2).contiguous().view(1, -1, 8, 8),
    "from behind": lambda x: grouped(x).transpose(-3, -4).reshape(x.shape),
    "flatten": lambda x: grouped(x).transpose(2, 1).flatten(1, 2),
    "unflatten": lambda x: x.unflatten(1, (3, 4)).transpose(1, 2).flatten(1, 2),
    "permute": lambda x: grouped(x).permute(0, 2, 1, 3, 4).reshape(1, 12, 8, 8),
    "PyTorch's own": nn.ChannelShuffle(3),
}


@pytest.mark.parametrize("body", SHUFFLES.values(), ids=SHUFFLES)
def test_a_channel_shuffle_is_one_operator(body: Body) -> None:
    assert operators(body) == {"channel_shuffle": 1}


def used_between(x: Tensor) -> Tensor:
    apart = grouped(x).transpose(1, 2)
    return apart.reshape(1, 12, 8, 8) + apart.sum((1, 2)).unsqueeze(1)


def used_before(x: Tensor) -> Tensor:
    apart = grouped(x)
    return apart.transpose(1, 2).reshape(1, 12, 8, 8) * apart.sum((1, 2)).unsqueeze(1)


NO_SHUFFLES: dict[str, Body] = {
    "other axes": lambda x: grouped(x).transpose(2, 3).reshape(1, 12, 8, 8),
    "height and width": lambda x: grouped(x).transpose(3, 4).reshape(1, 12, 8, 8),
    "other permutation": lambda x: grouped(x).permute(0, 2, 1, 4, 3).reshape(1, 12, 8, 8),
    "shape not restored": lambda x: grouped(x).transpose(1, 2).reshape(1, 6, 16, 8),
    "flattened": lambda x: grouped(x).transpose(1, 2).flatten(1),
    "split elsewhere": lambda x: x.view(1, 12, 2, 4, 8).transpose(1, 2).reshape(1, 12, 8, 8),
    "four axes": lambda x: x.view(1, 3, 4, 64).transpose(1, 2).reshape(1, 12, 8, 8),
    "width split": lambda x: x.view(1, 12, 8, 2, 4).transpose(1, 2).reshape(1, 12, 8, 8),
    "used between": used_between,
    "used before": used_before,
}


@pytest.mark.parametrize("body", NO_SHUFFLES.values(), ids=NO_SHUFFLES)
def test_other_transposes_are_no_shuffle(body: Body) -> None:
    found = operators(body)
    assert found["channel_shuffle"] == 0
    assert found["transpose"] + found["permute"] == 1


PARTS: dict[str, tuple[Body, int]] = {
    "chunk": (lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), 2),
    "uneven chunk": (lambda x: torch.cat(x.chunk(5, dim=1)[::-1], 1), 4),
    "from behind": (lambda x: torch.cat(x.chunk(2, -3)[::-1], 1), 2),
    "width": (lambda x: torch.cat(x.split(3, dim=-1)[::-1], -1), 3),
    "sizes": (lambda x: torch.cat(torch.split(x, [1, 4, 7], 1)[::-1], 1), 3),
    "all but one dropped": (lambda x: x.split([5, 7], 1)[1], 1),
    "the batch": (lambda x: x.chunk(1)[0], 1),
}


@pytest.mark.parametrize(("body", "parts"), PARTS.values(), ids=PARTS)
def test_each_part_is_a_slice(body: Body, parts: int) -> None:
    found = operators(body)
    assert found.pop("cat", 1) == 1
    assert found == {"slice": parts}


def test_parts_that_are_used_as_a_whole_stay() -> None:
    torch.manual_seed(0)
    module, x = Around(lambda x: torch.cat(x.chunk(2, 1), 1)), torch.randn(1, 3, 8, 8)
    program = torch.export.export(module, (x,))
    (chunk,) = [n for n in program.graph.nodes if n.target is torch.ops.aten.chunk.default]
    (cat,) = [n for n in program.graph.nodes if n.target is torch.ops.aten.cat.default]
    cat.args = (chunk, 1)
    program.graph.eliminate_dead_code()
    result = canonical(program, x)
    same(result, module, x)
    assert "slice" not in counts(result)


PADDED: dict[str, tuple[Body, dict[str, int]]] = {
    "max": (lambda x: max_pool2d(relu(x), 3, 2, 1), {"relu": 1, "pad": 1, "max_pool2d": 1}),
    "max of a clip": (
        lambda x: max_pool2d(nn.ReLU6()(x), 3, padding=(1, 0)),
        {"hardtanh": 1, "pad": 1, "max_pool2d": 1},
    ),
    "average": (lambda x: avg_pool2d(x, 3, 2, 1), {"pad": 1, "avg_pool2d": 1}),
    "one side": (lambda x: avg_pool2d(x, (3, 2), 2, (1, 0)), {"pad": 1, "avg_pool2d": 1}),
    "unbatched": (lambda x: avg_pool2d(x[0], 3, 1, 1), {"select": 1, "pad": 1, "avg_pool2d": 1}),
}


@pytest.mark.parametrize(("body", "wanted"), PADDED.values(), ids=PADDED)
def test_a_pools_padding_is_an_operator_of_its_own(body: Body, wanted: dict[str, int]) -> None:
    assert operators(body) == wanted


UNPADDED: dict[str, Body] = {
    "max of negatives": lambda x: max_pool2d(x - 3, 3, 2, 1),
    "max of a wider clip": lambda x: max_pool2d(nn.Hardtanh()(x - 3), 3, 2, 1),
    "max, changed after the clip": lambda x: max_pool2d(relu(x).sub_(5), 3, 2, 1),
    "max, ceil": lambda x: max_pool2d(relu(x), 3, 2, 1, ceil_mode=True),
    "max, dilated": lambda x: max_pool2d(relu(x), 2, 1, 1, dilation=2),
    "average, not counted": lambda x: avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "average, ceil": lambda x: avg_pool2d(x, 3, 2, 1, ceil_mode=True),
    "average, own divisor": lambda x: avg_pool2d(x, 3, 2, 1, divisor_override=5),
    "kernel alone": lambda x: avg_pool2d(x, 2),
    "stride": nn.MaxPool2d(2, 2),
    "stride from the kernel": lambda x: max_pool2d(x, 2),
}


@pytest.mark.parametrize("body", UNPADDED.values(), ids=UNPADDED)
def test_other_pools_keep_their_arguments(body: Body) -> None:
    found = operators(body)
    assert found["pad"] == 0
    assert found["max_pool2d"] + found["avg_pool2d"] == 1


def test_silu_is_a_product_with_its_gate() -> None:
    assert operators(silu) == {"sigmoid": 1, "mul": 1}
    assert operators(lambda x: silu(x) + x) == {"sigmoid": 1, "mul": 1, "add": 1}


def test_what_does_nothing_in_eval_mode_is_dropped() -> None:
    assert not operators(lambda x: nn.Dropout(0.5).eval()(x.contiguous()))
    assert not operators(lambda x: nn.Dropout2d(0.5).eval()(x))
    assert operators(lambda x: dropout(x, 0.0, training=True)) == {"dropout": 1}


@pytest.mark.parametrize(
    "body",
    [
        lambda x: x.transpose(2, 3).contiguous().view(1, -1),
        lambda x: relu(x.permute(0, 2, 3, 1).contiguous()).view(1, -1),
        lambda x: x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).view(1, -1),
    ],
    ids=["view", "further down", "channels last"],
)
def test_a_view_may_rely_on_what_was_contiguous(body: Body) -> None:
    found = operators(body)
    assert found["reshape"] == 1
    assert found["view"] == found["contiguous"] == 0


def residual(x: Tensor) -> Tensor:
    x += x.mean((2, 3), keepdim=True)
    return relu_(x) * hardsigmoid(x, inplace=True)


def test_nothing_is_left_that_works_in_place() -> None:
    assert operators(residual) == {"mean": 1, "add": 1, "relu": 1, "hardsigmoid": 1, "mul": 1}
    assert operators(lambda x: silu(x, inplace=True) + x) == {"sigmoid": 1, "mul": 1, "add": 1}


def half(x: Tensor) -> Tensor:
    silu(x.chunk(2, 1)[0], inplace=True)
    return x


def seen_otherwise(x: Tensor) -> Tensor:
    silu(grouped(x), inplace=True)
    return x


def some_channels(x: Tensor) -> Tensor:
    x = relu(x)
    x[:, :3].sub_(5)
    return max_pool2d(x, 3, 2, 1)


def the_whole(x: Tensor) -> Tensor:
    row = x[:, :, 0]
    relu_(x)
    return row


def a_copy(x: Tensor) -> Tensor:
    other = x.transpose(2, 3).contiguous()
    return other.sub_(5) + x.transpose(2, 3)


@pytest.mark.parametrize("body", [half, seen_otherwise, some_channels, the_whole, a_copy])
def test_what_is_written_through_a_view_arrives(body: Body) -> None:
    operators(body)


def test_a_view_that_alone_is_read_is_written_to_as_it_is() -> None:
    """Nothing else of the graph is to change for it: no decomposition."""

    def ghost(x: Tensor) -> Tensor:
        x = torch.cat((relu(x), x), 1)[:, :20]
        x += 1
        return dropout(x, training=False)

    assert operators(ghost) == {"relu": 1, "cat": 1, "slice": 1, "add": 1}


def test_a_canonical_program_stays_and_keeps_its_names() -> None:
    torch.manual_seed(0)
    module, x = Around(lambda x: silu(x).mean((2, 3))), torch.randn(1, 3, 8, 8)
    program = canonical(torch.export.export(module, (x,)), x)
    assert set(program.state_dict) == {"conv.weight", "conv.bias"}
    twice = canonical(program, x)
    assert counts(twice) == counts(program) == {"sigmoid": 1, "mul": 1, "mean": 1, "reshape": 1}
