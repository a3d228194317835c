"""Learning from a teacher's layers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgekit.errors import SpecError, UnknownName
from edgekit.learn.distil.features import Imitation, captured
from edgekit.learn.recipe.steps import Feature


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 5)
    )


def test_a_layers_output_is_kept_as_it_was(network: nn.Sequential) -> None:
    x = torch.randn(2, 3, 4, 4)
    with captured(network, ["0", "3"]) as found:
        logits = network(x)
    torch.testing.assert_close(found["0"], network[0](x))
    assert (found["0"] < 0).any()  # although the ReLU after it works in place
    torch.testing.assert_close(found["3"], logits)
    network(torch.zeros_like(x))
    torch.testing.assert_close(found["3"], logits)  # the hooks are gone


def test_a_layer_that_is_not_there_is_named(network: nn.Sequential) -> None:
    with pytest.raises(UnknownName, match="no layer of Sequential '4'.*there are: 0, 1, 2, 3"):
        captured(network, ["0", "4"]).__enter__()
    with pytest.raises(UnknownName):
        captured(network, [""]).__enter__()


def test_a_layer_without_a_map_is_refused() -> None:
    network = nn.Sequential(Pair())
    with captured(network, ["0"]), pytest.raises(SpecError, match="'0' gives tuple"):
        network(torch.zeros(1, 3, 2, 2))
    network = nn.Sequential(nn.Flatten(2))
    with captured(network, ["0"]), pytest.raises(SpecError, match=r"'0' gives \(1, 3, 4\)"):
        network(torch.zeros(1, 3, 2, 2))


def test_equal_channels_need_nothing_learned() -> None:
    ours, theirs = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    imitation = Imitation([Feature("a", "b", 0.5)], {"a": ours[:1]}, {"b": theirs[:1]})
    assert list(imitation.parameters()) == []
    found = imitation({"a": ours}, {"b": theirs})
    torch.testing.assert_close(found, 0.5 * ((ours - theirs) ** 2).mean())


def test_other_channels_go_through_a_1x1_convolution() -> None:
    ours, theirs = torch.randn(2, 4, 3, 3), torch.randn(2, 6, 3, 3)
    imitation = Imitation([Feature("a", "b")], {"a": ours[:1]}, {"b": theirs[:1]})
    weight, bias = imitation.parameters()
    assert weight.shape == (6, 4, 1, 1)
    found = imitation({"a": ours}, {"b": theirs})
    torch.testing.assert_close(found, F.mse_loss(F.conv2d(ours, weight, bias), theirs))
    found.backward()
    assert weight.grad is not None


def test_the_larger_map_is_averaged_to_the_smaller_one() -> None:
    ours, theirs = torch.randn(2, 4, 8, 4), torch.randn(2, 4, 4, 8)
    imitation = Imitation([Feature("a", "b")], {"a": ours[:1]}, {"b": theirs[:1]})
    wanted = F.mse_loss(F.avg_pool2d(ours, (2, 1)), F.avg_pool2d(theirs, (1, 2)))
    torch.testing.assert_close(imitation({"a": ours}, {"b": theirs}), wanted)


def test_vectors_are_maps_of_one_pixel_and_losses_add_up() -> None:
    ours = {"a": torch.randn(2, 4, 2, 2), "v": torch.randn(2, 5)}
    theirs = {"b": torch.randn(2, 4, 2, 2), "w": torch.randn(2, 5)}
    imitation = Imitation([Feature("a", "b", 2), Feature("v", "w", 3)], ours, theirs)
    wanted = 2 * F.mse_loss(ours["a"], theirs["b"]) + 3 * F.mse_loss(ours["v"], theirs["w"])
    torch.testing.assert_close(imitation(ours, theirs), wanted)
