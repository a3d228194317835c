import copy
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from architectures.mobilenet_v2 import mobilenet_v2
from edgekit.lower import export
from edgekit.lower.int8.equalise import channel_ranges, equalise, find_spaces
from edgekit.lower.network import CameraInput, Network, fold_batch_norm
from edgekit.spec import ImageSpec

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

IMAGE = ImageSpec(32, 32)


def uneven(module: nn.Module) -> nn.Module:
    """Channels that differ by up to 30 times, as a folded batch norm leaves them."""
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for child in module.modules():
            if isinstance(child, nn.Conv2d):
                shape = (child.out_channels, 1, 1, 1)
                factors = 10 ** (1.5 * torch.rand(shape, generator=random) - 1.5)
                child.weight.mul_(factors)
                if child.bias is not None:
                    child.bias.mul_(factors.flatten())
    return module


def exported(module: nn.Module) -> torch.fx.GraphModule:
    program = export.export(
        CameraInput(module, IMAGE), torch.full((1, 32, 32, 3), 128, dtype=torch.uint8)
    )
    return program.module(check_guards=False)


def outputs(module: torch.fx.GraphModule, tensors: list[Tensor]) -> Tensor:
    with torch.inference_mode():
        return torch.cat([module(pixels) for pixels in tensors])


def spread(module: torch.fx.GraphModule, tensors: list[Tensor]) -> float:
    """Mean over activations of log2(widest channel / median channel): bits that are lost."""
    wanted = {part.node for space in find_spaces(module.graph) for part in space.nodes}
    ranges = channel_ranges(module, wanted, tensors)
    assert ranges
    return float(
        torch.stack(
            [(peak.amax() / peak.median().clamp(min=1e-6)).log2() for peak in ranges.values()]
        ).mean()
    )


Make = Callable[[type[nn.Module]], nn.Module]


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, nn.Identity])
def test_the_outputs_stay_and_the_channels_even_out(
    make_mixed: Make, tensors: list[Tensor], activation: type[nn.Module]
) -> None:
    module = exported(uneven(fold_batch_norm(make_mixed(activation))))
    level = equalise(module, tensors)
    before, after = outputs(module, tensors), outputs(level, tensors)
    assert before.std() > 0.01
    assert (before - after).abs().max() <= 1e-4 * before.abs().max()
    assert spread(level, tensors) < 0.75 * spread(module, tensors)


def test_the_original_is_not_touched(make_mixed: Make, tensors: list[Tensor]) -> None:
    module = exported(uneven(fold_batch_norm(make_mixed(nn.ReLU6))))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    level = equalise(module, tensors[:4])
    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    changed = [n for n, v in level.state_dict().items() if not torch.equal(v, before[n])]
    assert "network.stem.0.weight" in changed


def test_the_spaces_of_mobilenet_v2() -> None:
    """A residual stage is one space; each expansion and each depthwise output is one."""
    module = exported(fold_batch_norm(mobilenet_v2(num_classes=10, width_mult=0.35)))
    spaces = find_spaces(module.graph)
    # normalisation; 7 stages of bottlenecks; 16 expansions; 17 depthwise; the stem; the last one
    assert len(spaces) == 1 + 7 + 16 + 17 + 1 + 1
    makers = sorted(len(space.makers) for space in spaces)
    assert makers[-5:] == [2, 3, 3, 3, 4], "repeats of the stages in table 2 of the paper"
    assert makers[:-5] == [1] * 38
    kinds = {space.ceiling for space in spaces}
    assert kinds == {6.0, None}
    assert sum(space.ceiling == 6.0 for space in spaces) == 16 + 17 + 1 + 1
    inside = {part.node for space in spaces for part in space.nodes}
    layers = {layer.name: layer.node for layer in export.layers(module.graph)}
    assert layers["network.features.17.conv.2 (conv)"] in inside
    assert layers["network.classifier.1 (linear)"] not in inside, "the logits are the output"


def test_what_a_relu6_clips_stays_clipped(make_mixed: Make, tensors: list[Tensor]) -> None:
    network = fold_batch_norm(make_mixed(nn.ReLU6))
    with torch.no_grad():
        for name in ("stem", "expand", "depthwise", "left", "right", "narrow"):
            for value in network.get_submodule(f"{name}.0").parameters():
                factors = torch.linspace(0.2, 4.0, len(value))
                value.mul_(factors.view(-1, *[1] * (value.dim() - 1)))
    module = exported(network)
    peaks = torch.cat(list(channel_ranges(module, relu6(module), tensors).values()))
    assert 0.1 < (peaks == 6).float().mean() < 0.9
    before, after = outputs(module, tensors), outputs(equalise(module, tensors), tensors)
    assert (before - after).abs().max() <= 1e-4 * before.abs().max()


def relu6(module: torch.fx.GraphModule) -> set[torch.fx.Node]:
    return {n for n in module.graph.nodes if "hardtanh" in str(n.target)}


class Odd(nn.Module):
    """Two convolutions and a linear layer with something odd between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.skip = nn.Conv2d(6, 6, 1)
        self.second = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.grouped = nn.Conv2d(6, 8, 3, groups=2)
        self.twice = nn.Conv2d(6, 12, 3, groups=6)
        self.narrow = nn.Conv2d(6, 5, 1)
        self.third = nn.Conv2d(12, 6, 1)
        self.plane = nn.Conv2d(3, 1, 1)
        self.rows = nn.Linear(30, 4, bias=False)
        self.last = nn.Linear(6, 4, bias=False)
        self.wide = nn.Linear(6, 7)
        self.other = nn.Linear(7, 6)
        self.offset = nn.Parameter(torch.linspace(-2, 2, 6).view(1, 6, 1, 1))


def end(net: Odd, x: Tensor) -> Tensor:
    logits: Tensor = net.last(torch.relu(net.second(x)).mean(dim=(2, 3)))
    return logits


def sigmoid(net: Odd, x: Tensor) -> Tensor:
    return end(net, torch.sigmoid(net.first(x)))


def shared_weight(net: Odd, x: Tensor) -> Tensor:
    return end(net, torch.relu(net.second(torch.relu(net.first(x)))))


def half_a_sum(net: Odd, x: Tensor) -> Tensor:
    x = torch.relu(net.first(x))
    return end(net, torch.add(x, net.skip(x), alpha=0.5))


def plus_a_number(net: Odd, x: Tensor) -> Tensor:
    return end(net, torch.relu(net.first(x)) + 1)


def plus_a_parameter(net: Odd, x: Tensor) -> Tensor:
    return end(net, torch.relu(net.first(x)) + net.offset)


def plus_one_plane(net: Odd, x: Tensor) -> Tensor:
    return end(net, torch.relu(net.first(x)) + net.plane(x))


def plus_another_plane(net: Odd, x: Tensor) -> Tensor:
    x = torch.relu(net.first(x))
    return end(net, x + net.skip(x)[:, :1])


def groups(net: Odd, x: Tensor) -> Tensor:
    return torch.relu(net.grouped(torch.relu(net.first(x)))).mean(dim=(2, 3))


def twice_as_deep(net: Odd, x: Tensor) -> Tensor:
    x = nn.functional.avg_pool2d(torch.relu(net.twice(torch.relu(net.first(x)))), 2)
    return end(net, torch.relu(net.third(x)))


def mean_of_channels(net: Odd, x: Tensor) -> Tensor:
    x = torch.relu(net.first(x))[:, :, 1:31, 1:31]
    logits: Tensor = net.rows(torch.relu(net.second(x)).mean(dim=(1, 2)))
    return logits


def padded_with_ones(net: Odd, x: Tensor) -> Tensor:
    return end(net, nn.functional.pad(torch.relu(net.first(x)), [1, 1, 1, 1], value=1.0))


def hard_tanh(net: Odd, x: Tensor) -> Tensor:
    return end(net, nn.functional.hardtanh(net.first(x)))


def channels_last(net: Odd, x: Tensor) -> Tensor:
    x = torch.relu(net.first(x)).permute(0, 2, 3, 1)  # (N, C, H, W) -> (N, H, W, C)
    x = net.other(torch.relu(net.wide(x)))
    return end(net, x.permute(0, 3, 1, 2))


def narrow_linear(net: Odd, x: Tensor) -> Tensor:
    x = torch.relu(net.first(x)).permute(0, 2, 3, 1)
    logits: Tensor = net.last(torch.relu(net.other(net.wide(x)))).mean(dim=(1, 2))
    return logits


def joined(net: Odd, x: Tensor) -> Tensor:
    x = torch.relu(net.first(x))
    return end(net, net.third(torch.cat((torch.relu(net.skip(x)), x), dim=1)))


def joined_with_itself(net: Odd, x: Tensor) -> Tensor:
    x = torch.relu(net.first(x))
    return end(net, net.third(torch.cat((x, x), dim=1)))


def joined_and_passed_by(net: Odd, x: Tensor) -> Tensor:
    x = torch.relu(net.first(x))
    both = torch.cat((x, torch.relu(net.skip(x))), dim=1)
    return end(net, net.third(both) + x)


def joined_of_joined(net: Odd, x: Tensor) -> Tensor:
    one = torch.relu(net.first(x))
    two = torch.relu(net.plane(x))
    inner = torch.cat((torch.relu(net.narrow(one)), two), dim=1)
    outer = torch.cat((torch.relu(net.skip(inner)), inner), dim=1)
    return end(net, net.third(outer))


def sum_of_joined(net: Odd, x: Tensor) -> Tensor:
    first = torch.relu(net.first(x))
    one = torch.cat((first, torch.relu(net.skip(first))), dim=1)
    return end(net, net.third(one + net.twice(nn.functional.pad(first, [1, 1, 1, 1]))))


def joined_below(net: Odd, x: Tensor) -> Tensor:
    x = torch.relu(net.first(x))
    return end(net, torch.cat((x, torch.relu(net.skip(x))), dim=2))


def joined_from_behind(net: Odd, x: Tensor) -> Tensor:
    x = torch.relu(net.first(x))
    return end(net, net.third(torch.cat((torch.relu(net.skip(x)), x), dim=-3)))


def joined_with_a_parameter(net: Odd, x: Tensor) -> Tensor:
    x = torch.relu(net.first(x)).mean((2, 3), keepdim=True)
    return end(net, net.third(torch.cat((torch.relu(net.skip(x)), net.offset), dim=1)))


def excited(net: Odd, x: Tensor) -> Tensor:
    x = torch.relu(net.first(x))
    gate = torch.sigmoid(net.skip(x.mean((2, 3), keepdim=True)))
    return end(net, gate * x)


def excited_by_itself(net: Odd, x: Tensor) -> Tensor:
    x = torch.relu(net.first(x))
    return end(net, x * x.mean((2, 3), keepdim=True))


def excited_by_one_number(net: Odd, x: Tensor) -> Tensor:
    y = torch.relu(net.first(x))
    return end(net, y * torch.sigmoid(net.plane(x)).mean((2, 3), keepdim=True))


def times_itself(net: Odd, x: Tensor) -> Tensor:
    x = torch.relu(net.first(x))
    return end(net, x * x)


def times_another(net: Odd, x: Tensor) -> Tensor:
    return end(net, torch.relu(net.first(x)) * torch.sigmoid(net.first(x)))


def times_a_parameter(net: Odd, x: Tensor) -> Tensor:
    return end(net, net.offset * torch.relu(net.first(x)))


def gates_multiplied(net: Odd, x: Tensor) -> Tensor:
    x = torch.relu(net.first(x)).mean((2, 3), keepdim=True)
    return end(net, x * torch.sigmoid(net.skip(x)))


def made_weight(net: Odd, x: Tensor) -> Tensor:
    x = torch.relu(net.first(x))
    weight = net.skip.weight - net.skip.weight.mean((1, 2, 3), keepdim=True)
    return end(net, torch.relu(nn.functional.conv2d(x, weight, net.skip.bias)))


ODD = (
    *(excited, excited_by_itself, excited_by_one_number, times_itself, times_another),
    *(times_a_parameter, gates_multiplied, made_weight),
    *(joined, joined_with_itself, joined_and_passed_by, joined_of_joined, sum_of_joined),
    *(joined_below, joined_from_behind, joined_with_a_parameter),
    *(sigmoid, shared_weight, half_a_sum, plus_a_number, plus_a_parameter, plus_one_plane),
    *(plus_another_plane, groups, twice_as_deep, mean_of_channels, padded_with_ones, hard_tanh),
    *(channels_last, narrow_linear),
)


@pytest.mark.parametrize("forward", ODD, ids=lambda forward: forward.__name__)
def test_whatever_lies_between_the_outputs_stay(
    monkeypatch: pytest.MonkeyPatch,
    tensors: list[Tensor],
    forward: Callable[[nn.Module, Tensor], Tensor],
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(Odd, "forward", forward)
    module = exported(uneven(Odd()))
    before, after = outputs(module, tensors[:8]), outputs(equalise(module, tensors), tensors[:8])
    assert before.abs().max() > 1e-6
    assert (before - after).abs().max() <= 1e-4 * before.abs().max()


@pytest.mark.parametrize("swapped", [False, True])
def test_a_squeeze_and_excite_passes_a_scale(
    monkeypatch: pytest.MonkeyPatch, tensors: list[Tensor], swapped: bool
) -> None:
    def forward(net: Odd, x: Tensor) -> Tensor:
        x = torch.relu(net.first(x))
        gate = torch.sigmoid(net.skip(x.mean((2, 3), keepdim=True)))
        return end(net, gate * x if swapped else x * gate)

    torch.manual_seed(0)
    monkeypatch.setattr(Odd, "forward", forward)
    module = exported(uneven(Odd()))
    spaces = [s for s in find_spaces(module.graph) if len(s.nodes) > 3]
    (space,) = spaces
    kinds = Counter(str(part.node.target) for part in space.nodes)
    assert kinds == {
        f"aten.{name}": 1 for name in ("conv2d.default", "relu.default", "mean.dim", "mul.Tensor")
    }
    users = {str(part.node.args[1]) for part in space.users}
    assert users == {"network_skip_weight", "network_second_weight"}
    before, level = outputs(module, tensors[:8]), equalise(module, tensors)
    assert (before - outputs(level, tensors[:8])).abs().max() <= 1e-4 * before.abs().max()
    assert not torch.equal(
        level.get_parameter("network.second.weight"), module.get_parameter("network.second.weight")
    )


def test_a_channel_that_is_always_zero_stays_finite(mixed: Network, tensors: list[Tensor]) -> None:
    network = copy.deepcopy(mixed.module)
    with torch.no_grad():
        for name in ("stem.0", "expand.0", "narrow.0"):
            network.get_parameter(f"{name}.weight")[0] = 0
            network.get_parameter(f"{name}.bias")[0] = -1
    module = exported(network)
    level = equalise(module, tensors)
    assert all(torch.isfinite(value).all() for value in level.state_dict().values())
    before, after = outputs(module, tensors), outputs(level, tensors)
    assert (before - after).abs().max() <= 1e-4 * before.abs().max()
