"""ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices (2017).

Paper: https://arxiv.org/abs/1707.01083
Original code: https://github.com/megvii-model/ShuffleNet-Series/tree/master/ShuffleNetV1

The paper is followed in the units (figure 2) and in what Table 1 says. The authors' code differs
from it, and its checkpoints do not load here: it shuffles after the depthwise convolution and deals
the channels out the other way round, its classifier has no bias, and it has channels for 3 and 8
groups only. Its first convolution does not follow the scale (24 channels at 1.5x, not 36; 16 at
0.5x with 8 groups, not 12): there we follow the code, and MACs are the paper's. Initialisation is
the code's. One argument is ours: `stem_stride=1` keeps the resolution in the first convolution.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from architectures._layers import ConvBNAct, channel_shuffle, initialise_shufflenet, pyramid, relu

__all__ = ("shufflenet_v1",)

# Table 1 of the paper: units of stages 2, 3, 4; the first of each halves the resolution.
REPEATS = (4, 8, 4)

# Table 1: groups -> output channels of stage 2, which doubles in 3 and again in 4. More groups
# afford more channels at the same arithmetic, about 140 M multiply-accumulates.
CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}

# Scale (section 3.3: "ShuffleNet s x") -> channels of the first convolution.
STEM = {0.5: 12, 1.0: 24, 1.5: 24, 2.0: 48}


class ShuffleUnit(nn.Module):
    """Grouped 1x1, channel shuffle, depthwise 3x3, grouped 1x1, and a skip (figure 2b and 2c).

    (N, c_in, H, W) -> (N, c_out, H/stride, W/stride). 1x1 convolutions dominate in such units, so
    they are split into groups, each of which sees its own channels only (section 3.1). Without the
    *channel shuffle* a group's outputs would only ever come from that group's inputs.

    Args:
        c_in: input channels.
        c_out: output channels; at stride 2 the pooled input supplies `c_in` of them.
        stride: 1, and the skip adds; or 2, and it concatenates.
        groups: of both 1x1 convolutions.
        first_groups: of the first one where it differs: few channels enter stage 2, so there it is
            not grouped (section 3.3).
    """

    def __init__(self, c_in: int, c_out: int, stride: int, groups: int, first_groups: int):
        super().__init__()
        thin = -(-c_out // 4 // groups) * groups  # a quarter, as a bottleneck; up to whole groups
        made = c_out if stride == 1 else c_out - c_in
        self.stride = stride
        self.groups = groups
        self.squeeze = ConvBNAct(c_in, thin, 1, groups=first_groups, activation=relu)
        self.depthwise = ConvBNAct(thin, thin, 3, stride, groups=thin, activation=None)
        self.expand = ConvBNAct(thin, made, 1, groups=groups, activation=None)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.squeeze(x)
        if self.groups > 1:
            y = channel_shuffle(y, self.groups)
        y = self.expand(self.depthwise(y))
        if self.stride == 1:
            return F.relu(x + y)
        # x comes out of a ReLU, so its mean needs none; figure 2c has one ReLU after joining.
        return torch.cat((self.pool(x), F.relu(y)), dim=1)


class ShuffleNetV1(nn.Module):
    """(N, 3, H, W) normalised RGB -> (N, num_classes) logits.

    Args:
        num_classes: size of the last layer; 0 builds none, and gives the pooled features.
        in_channels: of the image, 3 for RGB.
        groups: of the 1x1 convolutions, a key of `CHANNELS`.
        scale: multiplies all channels, a key of `STEM`; arithmetic goes with its square.
        stem_stride: stride of the first convolution, 2 in the paper.

    Raises:
        ValueError: there is no such network in the paper.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        groups: int = 3,
        scale: float = 1.0,
        stem_stride: int = 2,
    ):
        super().__init__()
        if groups not in CHANNELS or scale not in STEM:
            raise ValueError(
                f"no ShuffleNet with groups={groups}, scale={scale}: "
                f"groups are one of {tuple(CHANNELS)}, and scale is one of {tuple(STEM)}"
            )
        # What stage 2 adds to these has to divide by the groups.
        channels = 16 if (groups, scale) == (8, 0.5) else STEM[scale]
        self.conv1 = ConvBNAct(in_channels, channels, 3, stem_stride, activation=relu)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        stages: list[nn.Module] = []
        c_out = int(CHANNELS[groups] * scale)
        for i, repeats in enumerate(REPEATS):
            first = ShuffleUnit(channels, c_out, 2, groups, first_groups=groups if i else 1)
            rest = (ShuffleUnit(c_out, c_out, 1, groups, groups) for _ in range(repeats - 1))
            stages.append(nn.Sequential(first, *rest))
            channels, c_out = c_out, c_out * 2
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(channels, num_classes) if num_classes else nn.Identity()
        self.apply(initialise_shufflenet)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """The last map of each resolution, finest first, for other heads."""
        return pyramid((self.conv1, self.maxpool, *self.stages), x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(self.maxpool(self.conv1(x)))
        x = x.mean(dim=(2, 3))  # (N, C, H, W) -> (N, C), global average pooling
        return self.fc(x)


def shufflenet_v1(
    num_classes: int = 1000,
    in_channels: int = 3,
    groups: int = 3,
    scale: float = 1.0,
    stem_stride: int = 2,
) -> ShuffleNetV1:
    """ShuffleNet; 3 groups at scale 1.0 have 1.87 M parameters and 137 M MACs at 224x224."""
    return ShuffleNetV1(num_classes, in_channels, groups, scale, stem_stride)
