"""Networks that were never trained: what they cost on a device can be measured before training.

`edgekit build ARCHITECTURE --weights random`. Seeded weights by the architecture's own
initialisation; batch norm gets the statistics of real images, so that activations have the ranges
of a network that works, and a shift of 1. With the usual 0, half of every activation is cut off,
and a deep random network amplifies any noise (its gradients explode likewise: Yang et al., A Mean
Field Theory of Batch Normalization, 2019, https://arxiv.org/abs/1902.08129): MobileOne's int8
logits were 1 dB from the float ones, and are 27 dB from them with a shift of 1. So the parity gate
compares logits by the limits of any other network.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from edgekit.lower.calibrate import from_photographs
from edgekit.spec import ImageSpec

NAME = "random"
"""What is given in the place of a weights file."""
SEED = 0
IMAGES = 32
"""Views of the sample photographs that batch norm's statistics are taken over."""


def settle(module: nn.Module, image: ImageSpec) -> nn.Module:
    """Give every batch norm a shift of 1, and the mean and variance of real images; in place.

    Args:
        module: (N, 3, H, W) normalised -> anything; comes back in eval mode.
        image: the contract that the images go through.
    """
    norms = [part for part in module.eval().modules() if isinstance(part, nn.BatchNorm2d)]
    momenta: Mapping[nn.BatchNorm2d, float | None] = {norm: norm.momentum for norm in norms}
    for norm in norms:  # dropout stays off
        norm.train()
        norm.momentum = 1.0  # this batch alone
        if norm.affine:
            nn.init.ones_(norm.bias)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (image.mean, image.std))
    pixels = np.concatenate(from_photographs(image, IMAGES).inputs)
    with torch.no_grad():
        module((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std)
    for norm, momentum in momenta.items():
        norm.eval()
        norm.momentum = momentum
    return module
