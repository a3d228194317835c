"""Conformance over every network that `edgekit.plugins` lists: a new one is tested by existing."""

import pytest
import torch
from torch import nn

from edgekit import plugins
from edgekit.learn.prune.masks import is_depthwise, mask, prunable, zeros
from edgekit.learn.prune.rank import largest, n_of_m


def build(name: str) -> nn.Module:
    """Of seven classes, with weights that are quick to draw, none of them zero."""
    with torch.device("meta"):
        module = plugins.architecture(name)(num_classes=7)
    assert isinstance(module, nn.Module)
    module.to_empty(device="cpu")
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(0.1, 1.0)
    return module


@pytest.mark.parametrize("name", plugins.architectures())
def test_half_of_the_weights_go_exactly_and_depthwise_filters_stay(name: str) -> None:
    module = build(name)
    weights = prunable(module)
    count = sum(weight.numel() for weight in weights.values())
    assert count > 0.9 * sum(parameter.numel() for parameter in module.parameters())
    masks = largest(weights, 0.5, True, {})
    mask(module, masks)
    assert sum(int((weight == 0).sum()) for weight in weights.values()) == round(0.5 * count)
    found = zeros(module)
    assert all(torch.equal(found[part], masks[part]) for part in found)
    dense = [m for m in module.modules() if isinstance(m, nn.Conv2d) and is_depthwise(m)]
    first = next(m for m in module.modules() if isinstance(m, nn.Conv2d))
    assert all(layer.weight.all() for layer in (first, *dense))


@pytest.mark.parametrize("name", plugins.architectures())
def test_most_weights_lie_in_layers_that_can_be_two_of_four(name: str) -> None:
    weights = prunable(build(name))
    masks, dense = n_of_m(weights, 2, 4)
    assert set(masks) | set(dense) == set(weights)
    assert sum(stays.numel() for stays in masks.values()) > 0.85 * sum(
        weight.numel() for weight in weights.values()
    )
    assert all(stays.sum() * 2 == stays.numel() for stays in masks.values())
