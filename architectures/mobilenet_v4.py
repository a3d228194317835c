"""MobileNetV4: Universal Models for the Mobile Ecosystem (Qin et al., 2024).

Paper: https://arxiv.org/abs/2404.10518
Original code: https://github.com/tensorflow/models/blob/master/official/vision/modeling/backbones/mobilenet.py

Module names and batch norm (eps 1e-5, momentum 0.1; the original's are 1e-6 and 0.05) follow timm,
so its checkpoints load as they are. Padding is even on both sides; the original pads one more below
and to the right. `stem_stride=1`, for inputs of about 64 pixels, is ours.
"""

from typing import NamedTuple

from torch import Tensor, nn

from architectures._layers import initialise, pyramid

__all__ = ("mobilenetv4_conv_small",)


class Conv(NamedTuple):
    """A row of the table: a plain convolution."""

    kernel: int
    c_out: int
    stride: int


class UIB(NamedTuple):
    """A row of the table: a universal inverted bottleneck; a kernel of 0 leaves it out."""

    first: int
    middle: int
    expansion: int
    c_out: int
    stride: int


# MNv4-Conv-S as the paper's appendix has it: a tuple a stage, a row a block.
CONV_SMALL: tuple[tuple[Conv | UIB, ...], ...] = (
    (
        Conv(3, 32, 2),
        Conv(1, 32, 1),
    ),
    (
        Conv(3, 96, 2),
        Conv(1, 64, 1),
    ),
    (
        UIB(5, 5, 3, 96, 2),  # ExtraDW
        UIB(0, 3, 2, 96, 1),  # IB
        UIB(0, 3, 2, 96, 1),  # IB
        UIB(0, 3, 2, 96, 1),  # IB
        UIB(0, 3, 2, 96, 1),  # IB
        UIB(3, 0, 4, 96, 1),  # ConvNext-like
    ),
    (
        UIB(3, 3, 6, 128, 2),  # ExtraDW
        UIB(5, 5, 4, 128, 1),  # ExtraDW
        UIB(0, 5, 4, 128, 1),  # IB
        UIB(0, 5, 3, 128, 1),  # IB
        UIB(0, 3, 4, 128, 1),  # IB
        UIB(0, 3, 4, 128, 1),  # IB
    ),
    (Conv(1, 960, 1),),
)
HIDDEN = 1280


def conv2d(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)


class ConvNormAct(nn.Module):
    """Convolution, batch norm, ReLU; timm calls the batch norm `bn1` outside of a bottleneck."""

    def __init__(self, c_in: int, kernel: int, c_out: int, stride: int):
        super().__init__()
        self.conv = conv2d(c_in, c_out, kernel, stride)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn1(self.conv(x)))


class ConvNorm(nn.Sequential):
    """Convolution, batch norm, and ReLU unless `linear`: a step of the bottleneck."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ):
        super().__init__()
        self.conv = conv2d(c_in, c_out, kernel, stride, groups)
        self.bn = nn.BatchNorm2d(c_out)
        if not linear:
            self.act = nn.ReLU(inplace=True)


class UniversalInvertedBottleneck(nn.Module):
    """[depthwise] -> expand 1x1 -> [depthwise] -> linear projection 1x1; a skip joins the ends.

    Either depthwise convolution may be left out (kernel 0), and the search chooses (section 4):

        first  middle
        no     yes     IB, MobileNetV2's inverted bottleneck: mixes space where it is wide
        yes    no      ConvNext-like: mixes space where it is thin, so that a large kernel is cheap
        yes    yes     ExtraDW: both; deeper and a larger field of view for little
        no     no      FFN: two 1x1, the densest work there is for an accelerator

    The stride is the middle one's, or the first's where there is no middle one.
    """

    def __init__(self, c_in: int, first: int, middle: int, expansion: int, c_out: int, stride: int):
        super().__init__()
        wide = c_in * expansion
        at_first, at_middle = (1, stride) if middle else (stride, 1)
        self.has_skip = stride == 1 and c_in == c_out
        self.dw_start = (
            ConvNorm(c_in, c_in, first, at_first, groups=c_in, linear=True)
            if first
            else nn.Identity()
        )
        self.pw_exp = ConvNorm(c_in, wide, 1)
        self.dw_mid = (
            ConvNorm(wide, wide, middle, at_middle, groups=wide) if middle else nn.Identity()
        )
        self.pw_proj = ConvNorm(wide, c_out, 1, linear=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pw_proj(self.dw_mid(self.pw_exp(self.dw_start(x))))
        return x + y if self.has_skip else y


class MobileNetV4(nn.Module):
    """(N, 3, H, W) normalised RGB -> (N, num_classes) logits.

    Args:
        num_classes: size of the last layer; 0 builds none, and gives the (N, 1280) features.
        in_channels: of the image, 3 for RGB.
        stem_stride: stride of the first convolution, 2 in the paper.
        dropout: before the classifier, 0.3 in the paper's training.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        stem_stride: int = 2,
        dropout: float = 0.3,
    ):
        super().__init__()
        channels = 32
        self.conv_stem = conv2d(in_channels, channels, 3, stem_stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act1 = nn.ReLU(inplace=True)
        self.blocks = nn.Sequential()
        for rows in CONV_SMALL:
            stage = nn.Sequential()
            for row in rows:
                stage.append(
                    ConvNormAct(channels, *row)
                    if isinstance(row, Conv)
                    else UniversalInvertedBottleneck(channels, *row)
                )
                channels = row.c_out
            self.blocks.append(stage)
        self.conv_head = conv2d(channels, HIDDEN, 1)
        self.norm_head = nn.BatchNorm2d(HIDDEN)
        self.act2 = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout if num_classes else 0.0)
        self.classifier = nn.Linear(HIDDEN, num_classes) if num_classes else nn.Identity()
        self.apply(initialise)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """The last map of each resolution, finest first, for other heads."""
        x = self.act1(self.bn1(self.conv_stem(x)))
        return x, *pyramid(self.blocks, x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.act1(self.bn1(self.conv_stem(x))))
        x = x.mean(dim=(2, 3), keepdim=True)  # (N, C, H, W) -> (N, C, 1, 1)
        x = self.act2(self.norm_head(self.conv_head(x))).flatten(1)  # after the pooling: one pixel
        return self.classifier(self.dropout(x))


def mobilenetv4_conv_small(
    num_classes: int = 1000, in_channels: int = 3, stem_stride: int = 2, dropout: float = 0.3
) -> MobileNetV4:
    """MNv4-Conv-S: 3.77 M parameters, 186 M MACs at 224x224."""
    return MobileNetV4(num_classes, in_channels, stem_stride, dropout)
