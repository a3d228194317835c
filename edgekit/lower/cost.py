"""What a network costs: multiply-accumulates and parameters, per layer."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgekit.spec import ImageSpec


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One convolution or linear layer, for one image."""

    name: str
    macs: int
    parameters: int
    output: tuple[int, ...]
    """Shape, (1, C, H, W) or (1, C)."""


@dataclass(frozen=True, slots=True)
class Cost:
    """A whole network, for one image."""

    macs: int
    """Multiply-accumulates of convolutions and linear layers, as the papers count them."""
    parameters: int
    layers: tuple[LayerCost, ...]


def cost(module: nn.Module, image: ImageSpec) -> Cost:
    """Run `module` once on a grey (1, 3, height, width) image and count.

    A convolution takes k_h * k_w * c_in / groups multiply-accumulates for each output value, a
    linear layer c_in.
    """
    found: list[LayerCost] = []
    handles = [
        child.register_forward_hook(
            lambda m, _i, output, name=name: found.append(_layer(name, m, output))
        )
        for name, child in module.named_modules()
        if isinstance(child, nn.Conv2d | nn.Linear)
    ]
    try:
        with torch.inference_mode():
            module(torch.zeros(1, 3, image.height, image.width))
    finally:
        for handle in handles:
            handle.remove()
    parameters = sum(p.numel() for p in module.parameters())
    return Cost(sum(layer.macs for layer in found), parameters, tuple(found))


def _layer(name: str, module: nn.Module, output: Tensor) -> LayerCost:
    weight = module.weight
    assert isinstance(weight, Tensor)
    per_output = weight[0].numel()  # k_h * k_w * c_in / groups, or c_in
    count = sum(p.numel() for p in module.parameters())
    return LayerCost(name, output.numel() * per_output, count, tuple(output.shape))
