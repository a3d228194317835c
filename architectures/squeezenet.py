"""SqueezeNet: AlexNet-level accuracy with 50x fewer parameters (Iandola et al., 2016).

Paper: https://arxiv.org/abs/1602.07360
Original code: https://github.com/forresti/SqueezeNet

Module names follow torchvision, so its checkpoints load as they are. 1.1 is the authors' later
variant: 2.4x less computation at the same accuracy. One argument is ours: `stem_stride=1` keeps the
resolution in the first convolution, for inputs of about 64 pixels.
"""

import torch
from torch import Tensor, nn

from architectures._layers import pyramid

__all__ = ("squeezenet1_0", "squeezenet1_1")


class Fire(nn.Module):
    """Fire module: squeeze 1x1, then expand 1x1 and 3x3 side by side, joined on channels.

    (N, c_in, H, W) -> (N, 2 * expand, H, W). The squeeze layer limits what the costly 3x3
    filters see (section 3.1 and 3.2 of the paper).
    """

    def __init__(self, c_in: int, squeeze: int, expand: int):
        super().__init__()
        self.squeeze = nn.Conv2d(c_in, squeeze, 1)
        self.squeeze_activation = nn.ReLU(inplace=True)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand1x1_activation = nn.ReLU(inplace=True)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.expand3x3_activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze_activation(self.squeeze(x))
        left = self.expand1x1_activation(self.expand1x1(x))
        right = self.expand3x3_activation(self.expand3x3(x))
        return torch.cat((left, right), dim=1)


def pool() -> nn.MaxPool2d:
    """3x3 stride 2, with a partial window at the far edge (Caffe's rounding)."""
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


def features_1_0(in_channels: int, stem_stride: int) -> nn.Sequential:
    """Table 1 of the paper: wide 7x7 filters first, pools late."""
    return nn.Sequential(
        *(nn.Conv2d(in_channels, 96, 7, stem_stride), nn.ReLU(inplace=True), pool()),
        *(Fire(96, 16, 64), Fire(128, 16, 64), Fire(128, 32, 128), pool()),
        *(Fire(256, 32, 128), Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), pool()),
        Fire(512, 64, 256),
    )


def features_1_1(in_channels: int, stem_stride: int) -> nn.Sequential:
    """Narrow 3x3 filters first, and each pool one or two fire modules earlier."""
    return nn.Sequential(
        *(nn.Conv2d(in_channels, 64, 3, stem_stride), nn.ReLU(inplace=True), pool()),
        *(Fire(64, 16, 64), Fire(128, 16, 64), pool()),
        *(Fire(128, 32, 128), Fire(256, 32, 128), pool()),
        *(Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)),
    )


class SqueezeNet(nn.Module):
    """(N, 3, H, W) normalised RGB -> (N, num_classes) logits; no fully connected layer.

    Args:
        features: the fire modules and what stands between them; 512 channels leave them.
        num_classes: filters of the last convolution; 0 builds none, and gives the pooled (N, 512)
            features.
        dropout: before that convolution, 0.5 in the paper.
    """

    def __init__(self, features: nn.Sequential, num_classes: int = 1000, dropout: float = 0.5):
        super().__init__()
        self.features = features
        self.classifier = (
            nn.Sequential(
                nn.Dropout(dropout), nn.Conv2d(512, num_classes, 1), nn.ReLU(inplace=True)
            )
            if num_classes
            else nn.Identity()
        )
        self.apply(initialise)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """The last map of each resolution, finest first, for other heads."""
        return pyramid(self.features, x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.classifier(self.features(x))
        return x.mean(dim=(2, 3))  # (N, C, H, W) -> (N, C), global average pooling


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """He-uniform for the fire modules, a narrow normal for the classifier (torchvision's)."""
    if isinstance(module, SqueezeNet) and isinstance(module.classifier, nn.Sequential):
        nn.init.normal_(module.classifier.get_parameter("1.weight"), 0, 0.01)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def squeezenet1_0(
    num_classes: int = 1000, in_channels: int = 3, stem_stride: int = 2, dropout: float = 0.5
) -> SqueezeNet:
    """SqueezeNet 1.0: 1.25 M parameters, 819 M MACs at 224x224."""
    return SqueezeNet(features_1_0(in_channels, stem_stride), num_classes, dropout)


def squeezenet1_1(
    num_classes: int = 1000, in_channels: int = 3, stem_stride: int = 2, dropout: float = 0.5
) -> SqueezeNet:
    """SqueezeNet 1.1: 1.24 M parameters, 349 M MACs at 224x224."""
    return SqueezeNet(features_1_1(in_channels, stem_stride), num_classes, dropout)
