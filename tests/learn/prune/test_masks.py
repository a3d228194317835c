"""Which weights may go, and what a mask does."""

import pytest
import torch
from torch import nn

from edgekit.errors import SpecError, UnknownName
from edgekit.learn.prune.masks import emptied, is_depthwise, mask, prunable, sparsity, zeros


def net() -> nn.Sequential:
    """First convolution, depthwise, pointwise, classifier."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 4, 1),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


def test_the_first_convolution_the_depthwise_ones_and_biases_stay_dense() -> None:
    assert list(prunable(net())) == ["3.weight", "5.weight"]


def test_all_branches_of_the_first_layer_stay_dense() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1))
    assert list(prunable(module)) == ["2.weight"]


def test_what_keep_matches_stays_dense() -> None:
    assert list(prunable(net(), ("5",))) == ["3.weight"]


def test_a_pattern_that_matches_no_layer_is_refused() -> None:
    with pytest.raises(UnknownName, match=r"no layer to keep 'features\.9'; there are: 0, 2, 3, 5"):
        prunable(net(), ("3", "features.9"))


def test_nothing_to_prune_is_refused() -> None:
    with pytest.raises(SpecError, match="shorten 'keep'"):
        prunable(net(), ("*",))


def test_a_grouped_convolution_is_depthwise_only_where_each_channel_is_a_group() -> None:
    assert is_depthwise(nn.Conv2d(8, 16, 3, groups=8))
    assert not is_depthwise(nn.Conv2d(8, 8, 3, groups=4))
    assert not is_depthwise(nn.Conv2d(1, 8, 3))


def test_masked_weights_are_zero_without_a_sign_and_the_others_are_as_they_were() -> None:
    module = net()
    before = module.get_parameter("3.weight").clone()
    stays = before > 0
    mask(module, {"3.weight": stays})
    after = module.get_parameter("3.weight").detach()
    assert torch.equal(after[stays], before[stays])
    assert not after[~stays].any()
    assert not torch.signbit(after[~stays]).any()


def test_zeros_finds_the_masks_again() -> None:
    module = net()
    stays = module.get_parameter("5.weight") > 0
    mask(module, {"5.weight": stays})
    found = zeros(module)
    assert list(found) == ["5.weight"]
    assert torch.equal(found["5.weight"], stays)


def test_sparsity_counts_all_masks_together() -> None:
    masks = {"a": torch.tensor([True, False]), "b": torch.zeros(6, dtype=torch.bool)}
    assert sparsity(masks) == 7 / 8
    assert emptied(masks) == ["b"]
