"""ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design (Ma et al., 2018).

Paper: https://arxiv.org/abs/1807.11164
Original code: https://github.com/megvii-model/ShuffleNet-Series/tree/master/ShuffleNetV2

Module names follow torchvision, so its checkpoints load as they are, and so does what it does where
it differs from the authors' code: it shuffles at the end of a unit and splits in halves, they split
even from odd channels at the start; the first unit of stage 2 takes half of its output from each
branch (theirs takes 24 channels from the left one: another network at x1.0 and above); the
classifier has a bias. `from_original` converts their x0.5. Initialisation, and dropout at x2.0, are
theirs. One argument is ours: `stem_stride=1` keeps the resolution in the first convolution.
"""

import torch
from torch import Tensor, nn

from architectures._layers import ConvBNAct, channel_shuffle, initialise_shufflenet, pyramid, relu
from architectures._shufflenet_v2_original import from_original as from_original

__all__ = (
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "shufflenet_v2_x1_5",
    "shufflenet_v2_x2_0",
)

# Table 5 of the paper: units of stages 2, 3, 4; the first of each halves the resolution.
REPEATS = (4, 8, 4)

# Table 5, a column a variant: output channels of stages 2, 3, 4 and of the last convolution.
CHANNELS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}


def main_branch(c_in: int, half: int, stride: int) -> nn.Sequential:
    """1x1, depthwise 3x3, 1x1: (N, c_in, H, W) -> (N, half, H/stride, W/stride).

    G1, equal widths: a 1x1 with as many outputs as inputs reads and writes the least memory for
    its arithmetic, so all three are `half` wide (no bottleneck).
    G2, few groups: groups cost memory accesses, so neither 1x1 is grouped (in ShuffleNet V1 both
    are); the split into two halves does what groups did.
    """
    return nn.Sequential(
        *ConvBNAct(c_in, half, 1, activation=relu),
        *ConvBNAct(half, half, 3, stride, groups=half, activation=None),
        *ConvBNAct(half, half, 1, activation=relu),
    )


class ShuffleUnit(nn.Module):
    """Channel split, one branch of convolutions, concatenation, channel shuffle (figure 3c).

    (N, C, H, W) -> (N, C, H, W): the left half passes untouched and is used again by later units,
    as in DenseNet (section 3).
    G3, little fragmentation: one branch in a row, the other one is the identity.
    G4, few element-wise operators: no addition joins the branches, and ReLU runs on half of the
    channels only.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.branch2 = main_branch(channels // 2, channels // 2, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)  # channel split
        return channel_shuffle(torch.cat((left, self.branch2(right)), dim=1), groups=2)


class DownUnit(nn.Module):
    """No split, two branches of stride 2: (N, c_in, H, W) -> (N, c_out, H/2, W/2) (figure 3d)."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.branch1 = nn.Sequential(
            *ConvBNAct(c_in, c_in, 3, 2, groups=c_in, activation=None),
            *ConvBNAct(c_in, c_out // 2, 1, activation=relu),
        )
        self.branch2 = main_branch(c_in, c_out // 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return channel_shuffle(torch.cat((self.branch1(x), self.branch2(x)), dim=1), groups=2)


class ShuffleNetV2(nn.Module):
    """(N, 3, H, W) normalised RGB -> (N, num_classes) logits.

    Args:
        scale: the paper's level of complexity, a key of `CHANNELS`.
        num_classes: size of the last layer; 0 builds none, and gives the pooled features,
            (N, 1024), or (N, 2048) at scale 2.
        in_channels: of the image, 3 for RGB.
        stem_stride: stride of the first convolution, 2 in the paper.
        dropout: before the classifier.
    """

    def __init__(
        self,
        scale: float,
        num_classes: int = 1000,
        in_channels: int = 3,
        stem_stride: int = 2,
        dropout: float = 0.0,
    ):
        super().__init__()
        stage2, stage3, stage4, last = CHANNELS[scale]
        self.conv1 = ConvBNAct(in_channels, 24, 3, stem_stride, activation=relu)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stage2 = stage(24, stage2, REPEATS[0])
        self.stage3 = stage(stage2, stage3, REPEATS[1])
        self.stage4 = stage(stage3, stage4, REPEATS[2])
        self.conv5 = ConvBNAct(stage4, last, 1, activation=relu)
        self.dropout = nn.Dropout(dropout if num_classes else 0.0)
        self.fc = nn.Linear(last, num_classes) if num_classes else nn.Identity()
        self.apply(initialise_shufflenet)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """The last map of each resolution, finest first, for other heads."""
        stages = (self.stage2, self.stage3, self.stage4)
        return pyramid((self.conv1, self.maxpool, *stages, self.conv5), x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.conv1(x))
        x = self.conv5(self.stage4(self.stage3(self.stage2(x))))
        x = x.mean(dim=(2, 3))  # (N, C, H, W) -> (N, C), global average pooling
        return self.fc(self.dropout(x))


def stage(c_in: int, c_out: int, units: int) -> nn.Sequential:
    return nn.Sequential(DownUnit(c_in, c_out), *(ShuffleUnit(c_out) for _ in range(units - 1)))


def shufflenet_v2_x0_5(
    num_classes: int = 1000, in_channels: int = 3, stem_stride: int = 2, dropout: float = 0.0
) -> ShuffleNetV2:
    """ShuffleNet V2 x0.5: 1.37 M parameters, 40 M MACs at 224x224."""
    return ShuffleNetV2(0.5, num_classes, in_channels, stem_stride, dropout)


def shufflenet_v2_x1_0(
    num_classes: int = 1000, in_channels: int = 3, stem_stride: int = 2, dropout: float = 0.0
) -> ShuffleNetV2:
    """ShuffleNet V2 x1.0: 2.28 M parameters, 145 M MACs at 224x224."""
    return ShuffleNetV2(1.0, num_classes, in_channels, stem_stride, dropout)


def shufflenet_v2_x1_5(
    num_classes: int = 1000, in_channels: int = 3, stem_stride: int = 2, dropout: float = 0.0
) -> ShuffleNetV2:
    """ShuffleNet V2 x1.5: 3.50 M parameters, 296 M MACs at 224x224."""
    return ShuffleNetV2(1.5, num_classes, in_channels, stem_stride, dropout)


def shufflenet_v2_x2_0(
    num_classes: int = 1000, in_channels: int = 3, stem_stride: int = 2, dropout: float = 0.2
) -> ShuffleNetV2:
    """ShuffleNet V2 x2.0: 7.39 M parameters, 583 M MACs at 224x224."""
    return ShuffleNetV2(2.0, num_classes, in_channels, stem_stride, dropout)
