"""EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks (Tan and Le, 2019).

Paper: https://arxiv.org/abs/1905.11946
Original code: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet

Compound scaling (section 3.3): to spend 2^phi times the work, do not only deepen, or widen, or
sharpen, but do all three in a fixed ratio,

    depth d = 1.2^phi    width w = 1.1^phi    resolution r = 1.15^phi    (d * w^2 * r^2 ~ 2^phi)

Here `depth_mult` is d and `width_mult` is w; the resolution is the input's own. The published
coefficients are rounded:

    B0 (w 1.0, d 1.0, 224 pixels)    B1 (1.0, 1.1, 240)    B2 (1.1, 1.2, 260)    B3 (1.2, 1.4, 300)

Lite is the same network for integer hardware:
Original code: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
It drops squeeze-and-excite, which many accelerators cannot run and which multiplies maps of
unlike ranges; for SiLU it takes ReLU6, whose output is bounded, so that one int8 scale fits it; and
it fixes stem, head and the first and last stage while scaling, to keep the scaled ones small.

B0's module names are torchvision's and Lite's are timm's, so their checkpoints load as they are:
hence two block classes. Batch norm is theirs too (eps 1e-5, momentum 0.1; the paper's is 1e-3 and
0.01). Padding is even on both sides; the original pads one more below and to the right.
`stem_stride=1`, for inputs of about 64 pixels, is ours.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn

from architectures._layers import ConvBNAct, initialise, make_divisible, pyramid

__all__ = ("efficientnet_b0", "efficientnet_lite0")

# Table 1: expansion ratio, output channels, repeats, stride of the first, kernel.
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


class StochasticDepth(nn.Module):
    """In training, drop a block's whole branch for a share `p` of the samples; else do nothing.

    Huang et al., 2016 (https://arxiv.org/abs/1603.09382). What is kept is divided by 1 - p.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        keep = 1 - self.p
        return x * torch.empty_like(x[:, :1, :1, :1]).bernoulli_(keep) / keep


class SqueezeExcitation(nn.Module):
    """Weigh each channel of (N, C, H, W) by what the whole picture holds; the factor is 0 to 1."""

    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.activation = nn.SiLU(inplace=True)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.scale_activation = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        scale = x.mean(dim=(2, 3), keepdim=True)
        return x * self.scale_activation(self.fc2(self.activation(self.fc1(scale))))


class MBConv(nn.Module):
    """B0's block: expand 1x1 -> depthwise -> squeeze-and-excite -> linear projection 1x1, SiLU.

    The squeeze is to a quarter of the block's *thin* input, not of its wide middle.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int, drop: float
    ):
        super().__init__()
        wide = c_in * expansion
        conv = partial(ConvBNAct, activation=nn.SiLU)
        self.use_res_connect = stride == 1 and c_in == c_out
        self.block = nn.Sequential(
            *([conv(c_in, wide, 1)] if expansion != 1 else []),
            conv(wide, wide, kernel, stride, groups=wide),
            SqueezeExcitation(wide, max(1, c_in // 4)),
            ConvBNAct(wide, c_out, 1, activation=None),
        )
        self.stochastic_depth = StochasticDepth(drop)

    def forward(self, x: Tensor) -> Tensor:
        if self.use_res_connect:
            return x + self.stochastic_depth(self.block(x))
        return self.block(x)


class MBConvLite(nn.Sequential):
    """Lite's block: expand 1x1 -> depthwise -> linear projection 1x1, ReLU6, as MobileNetV2's."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int, drop: float
    ):
        super().__init__()
        wide = c_in * expansion
        depthwise = nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False)
        convs = [("conv_dw", depthwise)]
        if expansion != 1:
            convs.insert(0, ("conv_pw", nn.Conv2d(c_in, wide, 1, bias=False)))
        last = "conv_pwl" if expansion != 1 else "conv_pw"  # timm's two names for the projection
        convs.append((last, nn.Conv2d(wide, c_out, 1, bias=False)))
        for i, (name, conv) in enumerate(convs, 1):
            self.add_module(name, conv)
            self.add_module(f"bn{i}", nn.BatchNorm2d(conv.out_channels))
            if i < len(convs):
                self.add_module(f"act{i}", nn.ReLU6(inplace=True))
        self.use_res_connect = stride == 1 and c_in == c_out
        if self.use_res_connect:
            self.drop_path = StochasticDepth(drop)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self:
            y = layer(y)
        return x + y if self.use_res_connect else y


def stages(
    block: type[MBConv | MBConvLite],
    c_in: int,
    width_mult: float,
    depths: list[int],
    stochastic_depth: float,
) -> list[nn.Sequential]:
    """The stages of `STAGES`; blocks are dropped the more, linearly, the deeper they stand."""
    built: list[nn.Sequential] = []
    before = 0
    for (t, c, _, s, kernel), depth in zip(STAGES, depths, strict=True):
        c_out = make_divisible(c * width_mult)
        stage = nn.Sequential()
        for i in range(depth):
            drop = stochastic_depth * (before + i) / sum(depths)
            stage.append(block(c_in, c_out, kernel, s if i == 0 else 1, t, drop))
            c_in = c_out
        built.append(stage)
        before += depth
    return built


def initialise_classifier(classifier: nn.Module) -> None:
    """The original's: uniform within 1 / sqrt(num_classes)."""
    for linear in (m for m in classifier.modules() if isinstance(m, nn.Linear)):
        bound = 1 / math.sqrt(linear.out_features)
        nn.init.uniform_(linear.weight, -bound, bound)


class EfficientNet(nn.Module):
    """(N, 3, H, W) normalised RGB -> (N, num_classes) logits.

    Args:
        num_classes: size of the last layer; 0 builds none, and gives the pooled (N, 1280) features.
        in_channels: of the image, 3 for RGB.
        width_mult: compound scaling's w, of the channels.
        depth_mult: compound scaling's d, of the repeats, rounded up.
        stem_stride: stride of the first convolution, 2 in the paper.
        dropout: before the classifier, 0.2 in the paper for B0.
        stochastic_depth: share of samples that the deepest block drops in training, 0.2 in the
            paper.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        width_mult: float = 1.0,
        depth_mult: float = 1.0,
        stem_stride: int = 2,
        dropout: float = 0.2,
        stochastic_depth: float = 0.2,
    ):
        super().__init__()
        stem, last = make_divisible(32 * width_mult), make_divisible(320 * width_mult)
        depths = [math.ceil(n * depth_mult) for _, _, n, _, _ in STAGES]
        self.features = nn.Sequential(
            ConvBNAct(in_channels, stem, 3, stem_stride, activation=nn.SiLU),
            *stages(MBConv, stem, width_mult, depths, stochastic_depth),
            ConvBNAct(last, 4 * last, 1, activation=nn.SiLU),
        )
        self.classifier = (
            nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * last, num_classes))
            if num_classes
            else nn.Identity()
        )
        self.apply(initialise)
        initialise_classifier(self.classifier)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """The last map of each resolution, finest first, for other heads."""
        return pyramid(self.features, x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = x.mean(dim=(2, 3))  # (N, C, H, W) -> (N, C), global average pooling
        return self.classifier(x)


class EfficientNetLite(nn.Module):
    """(N, 3, H, W) normalised RGB -> (N, num_classes) logits; arguments as `EfficientNet`'s."""

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        width_mult: float = 1.0,
        depth_mult: float = 1.0,
        stem_stride: int = 2,
        dropout: float = 0.2,
        stochastic_depth: float = 0.2,
    ):
        super().__init__()
        repeats = [n for _, _, n, _, _ in STAGES]
        depths = [repeats[0], *(math.ceil(n * depth_mult) for n in repeats[1:-1]), repeats[-1]]
        last = make_divisible(320 * width_mult)
        self.conv_stem = nn.Conv2d(in_channels, 32, 3, stem_stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.act1 = nn.ReLU6(inplace=True)
        self.blocks = nn.Sequential(*stages(MBConvLite, 32, width_mult, depths, stochastic_depth))
        self.conv_head = nn.Conv2d(last, 1280, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(1280)
        self.act2 = nn.ReLU6(inplace=True)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(1280, num_classes) if num_classes else nn.Identity()
        self.apply(initialise)
        initialise_classifier(self.classifier)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """The last map of each resolution, finest first, for other heads."""
        *finer, x = pyramid(self.blocks, self.act1(self.bn1(self.conv_stem(x))))
        return *finer, self.act2(self.bn2(self.conv_head(x)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.act1(self.bn1(self.conv_stem(x))))
        x = self.act2(self.bn2(self.conv_head(x)))
        x = x.mean(dim=(2, 3))  # (N, C, H, W) -> (N, C), global average pooling
        return self.classifier(self.dropout(x))


def efficientnet_b0(
    num_classes: int = 1000,
    in_channels: int = 3,
    width_mult: float = 1.0,
    depth_mult: float = 1.0,
    stem_stride: int = 2,
    dropout: float = 0.2,
    stochastic_depth: float = 0.2,
) -> EfficientNet:
    """EfficientNet-B0: 5.29 M parameters, 386 M MACs at 224x224; B1 is `depth_mult=1.1`."""
    return EfficientNet(
        num_classes, in_channels, width_mult, depth_mult, stem_stride, dropout, stochastic_depth
    )


def efficientnet_lite0(
    num_classes: int = 1000,
    in_channels: int = 3,
    width_mult: float = 1.0,
    depth_mult: float = 1.0,
    stem_stride: int = 2,
    dropout: float = 0.2,
    stochastic_depth: float = 0.2,
) -> EfficientNetLite:
    """EfficientNet-Lite0: 4.65 M parameters, 385 M MACs at 224x224."""
    return EfficientNetLite(
        num_classes, in_channels, width_mult, depth_mult, stem_stride, dropout, stochastic_depth
    )
