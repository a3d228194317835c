"""GhostNet: More Features from Cheap Operations (Han et al., 2020).

Paper: https://arxiv.org/abs/1911.11907
Original code: https://github.com/huawei-noah/Efficient-AI-Backbones/tree/master/ghostnet_pytorch

Module names follow timm, so its checkpoints load as they are. From the authors' code, not from the
paper: squeeze-and-excite gates with a hard sigmoid, and channels are multiples of 4. Initialisation
is He's; neither states one. timm slices each ghost module's output to its width, which cuts
nothing off at ratio 2: no slice here. One argument is ours: `stem_stride=1` keeps the resolution
in the first convolution, for inputs of about 64 pixels.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from architectures._layers import initialise, make_divisible, pyramid, relu

__all__ = ("ghostnet_050", "ghostnet_100", "ghostnet_130")

# Table 1 of the paper: kernel, expansion size, output channels, squeeze-and-excite, stride.
# A row of the outer list is one of timm's `blocks`; each begins where the resolution or SE changes.
STAGES: tuple[tuple[tuple[int, int, int, bool, int], ...], ...] = (
    ((3, 16, 16, False, 1),),
    ((3, 48, 24, False, 2),),
    ((3, 72, 24, False, 1),),
    ((5, 72, 40, True, 2),),
    ((5, 120, 40, True, 1),),
    ((3, 240, 80, False, 2),),
    (
        (3, 200, 80, False, 1),
        (3, 184, 80, False, 1),
        (3, 184, 80, False, 1),
        (3, 480, 112, True, 1),
        (3, 672, 112, True, 1),
    ),
    ((5, 672, 160, True, 2),),
    (
        (5, 960, 160, False, 1),
        (5, 960, 160, True, 1),
        (5, 960, 160, False, 1),
        (5, 960, 160, True, 1),
    ),
)
LAST = 960  # the 1x1 convolution before pooling
HIDDEN = 1280  # the 1x1 convolution after it, the same at every width


class GhostModule(nn.Module):
    """Half of the channels by a convolution, half as their ghosts: (N, c_in, H, W) -> c_out.

    Feature maps of a trained network come in similar pairs. So a *primary convolution* makes only
    c_out / 2 intrinsic maps, and a *cheap operation*, a depthwise 3x3, makes one ghost of each
    (section 3.1, with ratio s = 2 and kernel d = 3, the paper's choice in Table 3 and 4). That is
    about half the parameters and arithmetic of an ordinary convolution, in twice the operators.
    """

    def __init__(self, c_in: int, c_out: int, activation: Callable[[], nn.Module]):
        super().__init__()
        intrinsic = c_out // 2  # c_out is even: nothing is cut off
        self.primary_conv = nn.Sequential(
            nn.Conv2d(c_in, intrinsic, 1, bias=False), nn.BatchNorm2d(intrinsic), activation()
        )
        self.cheap_operation = nn.Sequential(
            nn.Conv2d(intrinsic, intrinsic, 3, padding=1, groups=intrinsic, bias=False),
            nn.BatchNorm2d(intrinsic),
            activation(),
        )

    def forward(self, x: Tensor) -> Tensor:
        primary = self.primary_conv(x)
        return torch.cat((primary, self.cheap_operation(primary)), dim=1)


class SqueezeExcite(nn.Module):
    """Weigh each channel by what the whole image holds: (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int):
        super().__init__()
        reduced = make_divisible(channels / 4, 4)
        self.conv_reduce = nn.Conv2d(channels, reduced, 1)
        self.act1 = relu()
        self.conv_expand = nn.Conv2d(reduced, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean(dim=(2, 3), keepdim=True)  # squeeze: (N, C, 1, 1)
        return x * self.gate(self.conv_expand(self.act1(self.conv_reduce(pooled))))


class GhostBottleneck(nn.Module):
    """Ghost module expands, ghost module projects, a skip around both (figure 3).

    (N, c_in, H, W) -> (N, c_out, H/stride, W/stride). At stride 2 a depthwise convolution stands
    between them. The second module is linear, as MobileNetV2's bottleneck.
    """

    def __init__(self, c_in: int, wide: int, c_out: int, kernel: int, stride: int, has_se: bool):
        super().__init__()
        self.ghost1 = GhostModule(c_in, wide, relu)
        if stride > 1:
            self.conv_dw = depthwise(wide, kernel, stride)
            self.bn_dw = nn.BatchNorm2d(wide)
        self.is_strided = stride > 1
        self.se = SqueezeExcite(wide) if has_se else nn.Identity()
        self.ghost2 = GhostModule(wide, c_out, nn.Identity)
        self.shortcut = nn.Sequential()
        if stride > 1 or c_in != c_out:
            self.shortcut = nn.Sequential(
                depthwise(c_in, kernel, stride),
                nn.BatchNorm2d(c_in),
                nn.Conv2d(c_in, c_out, 1, bias=False),
                nn.BatchNorm2d(c_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.ghost1(x)
        if self.is_strided:
            y = self.bn_dw(self.conv_dw(y))
        return self.ghost2(self.se(y)) + self.shortcut(x)


class ConvBnAct(nn.Module):
    """1x1 convolution, batch norm, ReLU, by timm's names: (N, c_in, H, W) -> (N, c_out, H, W)."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.act = relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn1(self.conv(x)))


class GhostNet(nn.Module):
    """(N, 3, H, W) normalised RGB -> (N, num_classes) logits.

    Args:
        width: multiplies all channels but the last 1280.
        num_classes: size of the last layer; 0 builds none, and gives the (N, 1280) features.
        in_channels: of the image, 3 for RGB.
        stem_stride: stride of the first convolution, 2 in the paper.
        dropout: before the classifier, 0.2 in the authors' code.
    """

    def __init__(
        self,
        width: float,
        num_classes: int = 1000,
        in_channels: int = 3,
        stem_stride: int = 2,
        dropout: float = 0.2,
    ):
        super().__init__()
        channels = make_divisible(16 * width, 4)
        self.conv_stem = nn.Conv2d(in_channels, channels, 3, stem_stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act1 = relu()
        self.blocks = blocks(channels, width)
        last = make_divisible(LAST * width, 4)
        self.conv_head = nn.Conv2d(last, HIDDEN, 1)
        self.act2 = relu()
        self.dropout = nn.Dropout(dropout if num_classes else 0.0)
        self.classifier = nn.Linear(HIDDEN, num_classes) if num_classes else nn.Identity()
        self.apply(initialise)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """The last map of each resolution, finest first, for other heads."""
        return pyramid(self.blocks, self.act1(self.bn1(self.conv_stem(x))))

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.act1(self.bn1(self.conv_stem(x))))
        x = x.mean(dim=(2, 3), keepdim=True)  # (N, C, H, W) -> (N, C, 1, 1)
        x = self.act2(self.conv_head(x)).flatten(1)
        return self.classifier(self.dropout(x))


def depthwise(channels: int, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)


def blocks(channels: int, width: float) -> nn.Sequential:
    """The bottlenecks of `STAGES`, and the convolution that ends them."""
    stages: list[nn.Sequential] = []
    for rows in STAGES:
        units: list[nn.Module] = []
        for kernel, expansion, c, has_se, stride in rows:
            wide, c_out = make_divisible(expansion * width, 4), make_divisible(c * width, 4)
            units.append(GhostBottleneck(channels, wide, c_out, kernel, stride, has_se))
            channels = c_out
        stages.append(nn.Sequential(*units))
    last = ConvBnAct(channels, make_divisible(LAST * width, 4))
    return nn.Sequential(*stages, nn.Sequential(last))


def ghostnet_050(
    num_classes: int = 1000, in_channels: int = 3, stem_stride: int = 2, dropout: float = 0.2
) -> GhostNet:
    """GhostNet 0.5x: 2.59 M parameters, 42 M MACs at 224x224."""
    return GhostNet(0.5, num_classes, in_channels, stem_stride, dropout)


def ghostnet_100(
    num_classes: int = 1000, in_channels: int = 3, stem_stride: int = 2, dropout: float = 0.2
) -> GhostNet:
    """GhostNet 1.0x: 5.18 M parameters, 141 M MACs at 224x224."""
    return GhostNet(1.0, num_classes, in_channels, stem_stride, dropout)


def ghostnet_130(
    num_classes: int = 1000, in_channels: int = 3, stem_stride: int = 2, dropout: float = 0.2
) -> GhostNet:
    """GhostNet 1.3x: 7.36 M parameters, 227 M MACs at 224x224."""
    return GhostNet(1.3, num_classes, in_channels, stem_stride, dropout)
