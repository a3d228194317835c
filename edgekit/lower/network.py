"""What is to be lowered: a network with its weights, image contract and labels, as one value.

A network here takes *normalised* planes, (N, 3, H, W) float32, and gives logits (N, classes).
`CameraInput` puts the image contract's arithmetic in front of it, so that what is exported takes
camera pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgekit import checkpoint
from edgekit.manifest import Accuracy
from edgekit.spec import ImageSpec

Argument: TypeAlias = int | float | str | bool


@dataclass(frozen=True, slots=True)
class Network:
    """A network ready to lower; `module` is in eval mode, batch norm folded where it can be."""

    name: str
    module: nn.Module
    image: ImageSpec
    labels: tuple[str, ...]
    arguments: Mapping[str, Argument]
    checkpoint_sha256: str
    """Of the weights file; empty for a network that brings its own weights."""
    accuracy: Accuracy | None = None
    """Of the float checkpoint, as its card states it."""

    @property
    def classes(self) -> int:
        return len(self.labels)


class CameraInput(nn.Module):
    """uint8 (1, H, W, 3) RGB pixels -> `(x / 255 - mean) / std` -> the network's logits.

    Normalisation is a depthwise 1x1 convolution, one multiply and one add a channel, which every
    runtime has in float and in int8. It stays an operator of its own: folded into the network's
    first convolution it would change what that one's zero padding means.
    """

    def __init__(self, network: nn.Module, image: ImageSpec):
        super().__init__()
        mean, std = (torch.tensor(v, dtype=torch.float64) for v in (image.mean, image.std))
        self.normalise = nn.Conv2d(3, 3, 1, groups=3)
        with torch.no_grad():
            self.normalise.weight.copy_((1 / (255 * std)).view(3, 1, 1, 1))
            self.normalise.get_parameter("bias").copy_(-mean / std)
        self.network = network
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        planes = image.permute(0, 3, 1, 2).float()  # (1, H, W, 3) -> (1, 3, H, W)
        return self.network(self.normalise(planes))


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Fold each batch norm that directly follows a convolution in a `Sequential` into it.

    In place; the batch norm becomes `Identity`, so module names stay. Exact in eval mode up to
    float rounding: w' = w * gamma / sqrt(var + eps), b' = (b - mean) * gamma / sqrt(var + eps)
    + beta.
    """
    module.eval()
    for sequential in [m for m in module.modules() if isinstance(m, nn.Sequential)]:
        for i in range(len(sequential) - 1):
            conv, norm = sequential[i], sequential[i + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                sequential[i] = fuse_conv_bn_eval(conv, norm)
                sequential[i + 1] = nn.Identity()
    return module


def load_weights(module: nn.Module, tensors: Mapping[str, np.ndarray], source: str) -> nn.Module:
    """Load a state dict, with batch norm folded or not; returns `module`, folded, in eval mode.

    Raises:
        CheckpointError: names the first tensor that is missing, left over or of another shape.
    """
    stored_folded = not any(name.endswith("running_mean") for name in tensors)
    if stored_folded:
        fold_batch_norm(module)
    expected = {
        name: tuple(value.shape)
        for name, value in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    found = {n: v for n, v in tensors.items() if not n.endswith("num_batches_tracked")}
    checkpoint.check(expected, found, source)
    module.load_state_dict(
        {n: torch.from_numpy(np.array(v)) for n, v in found.items()}, strict=False
    )
    return fold_batch_norm(module)
