"""Searching for MobileNetV3 (Howard et al., 2019).

Paper: https://arxiv.org/abs/1905.02244
Original code: https://github.com/tensorflow/models/tree/master/research/slim/nets/mobilenet

Module names, batch norm (eps 0.001, momentum 0.01) and initialisation follow torchvision, so its
checkpoints load as they are. Where torchvision and the original code differ, torchvision is
followed: all layers scale with `width_mult`, also the classifier's hidden one, which the original
can keep whole. Padding is even on both sides; the original pads one more below and to the right.
`stem_stride=1`, for inputs of about 64 pixels, is ours.
"""

from functools import partial

from torch import Tensor, nn

from architectures._layers import ConvBNAct, initialise, make_divisible, pyramid, relu

__all__ = ("mobilenet_v3_large", "mobilenet_v3_small")

Stage = tuple[int, int, int, bool, bool, int]

# Table 1: kernel, expanded channels, output channels, squeeze-and-excite?, hard-swish?, stride.
LARGE: tuple[Stage, ...] = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)

# Table 2, the same columns.
SMALL: tuple[Stage, ...] = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)

# Section 5.2: swish is x * sigmoid(x), and sigmoid is dear on small hardware, so both are made
# piecewise: hard-sigmoid(x) = relu6(x + 3) / 6, and hard-swish(x) = x * relu6(x + 3) / 6.
hard_sigmoid = nn.Hardsigmoid
hard_swish = nn.Hardswish
norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)


class SqueezeExcitation(nn.Module):
    """Weigh each channel of (N, C, H, W) by what the whole picture holds (section 5.3).

    Squeeze: the mean over the picture, (N, C, 1, 1). Excite: two 1x1 convolutions through a
    quarter of the channels give each channel a factor from 0 to 1, here by hard-sigmoid.
    """

    def __init__(self, channels: int):
        super().__init__()
        squeezed = make_divisible(channels // 4)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.activation = relu()
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.scale_activation = hard_sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        scale = x.mean(dim=(2, 3), keepdim=True)
        return x * self.scale_activation(self.fc2(self.activation(self.fc1(scale))))


class InvertedResidual(nn.Module):
    """Expand 1x1 -> depthwise -> squeeze-and-excite -> linear projection 1x1 (figure 4).

    MobileNetV2's block; new are the squeeze-and-excite on its wide middle and the activation.
    """

    def __init__(
        self, c_in: int, wide: int, c_out: int, kernel: int, stride: int, excite: bool, swish: bool
    ):
        super().__init__()
        self.use_res_connect = stride == 1 and c_in == c_out
        conv = partial(ConvBNAct, activation=hard_swish if swish else relu, norm=norm)
        self.block = nn.Sequential(
            *([conv(c_in, wide, 1)] if wide != c_in else []),
            conv(wide, wide, kernel, stride, groups=wide),
            *([SqueezeExcitation(wide)] if excite else []),
            ConvBNAct(wide, c_out, 1, activation=None, norm=norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.use_res_connect else self.block(x)


class MobileNetV3(nn.Module):
    """(N, 3, H, W) normalised RGB -> (N, num_classes) logits.

    The last layers are the paper's cheap ones (figure 5): the wide hidden layer stands after the
    pooling, where it costs one pixel.

    Args:
        stages: rows of `LARGE` or `SMALL`.
        hidden: width of the classifier's hidden layer, before `width_mult`.
        num_classes: size of the last layer; 0 builds no classifier, and gives the pooled features,
            (N, 960) of large and (N, 576) of small.
        in_channels: of the image, 3 for RGB.
        width_mult: the width multiplier, of all layers.
        stem_stride: stride of the first convolution, 2 in the paper.
        dropout: before the last layer; torchvision trains with 0.2.
        minimalistic: Google's variant for hardware without a good kernel for them (DSPs, early
            accelerators, int8): no squeeze-and-excite, ReLU for hard-swish, 3x3 for 5x5.
    """

    def __init__(
        self,
        stages: tuple[Stage, ...],
        hidden: int,
        num_classes: int = 1000,
        in_channels: int = 3,
        width_mult: float = 1.0,
        stem_stride: int = 2,
        dropout: float = 0.2,
        minimalistic: bool = False,
    ):
        super().__init__()
        activation = relu if minimalistic else hard_swish
        conv = partial(ConvBNAct, activation=activation, norm=norm)
        channels = make_divisible(16 * width_mult)
        features: list[nn.Module] = [conv(in_channels, channels, 3, stem_stride)]
        for kernel, wide, c, excite, swish, stride in stages:
            if minimalistic:
                kernel, excite, swish = 3, False, False
            wide, c_out = make_divisible(wide * width_mult), make_divisible(c * width_mult)
            features.append(InvertedResidual(channels, wide, c_out, kernel, stride, excite, swish))
            channels = c_out
        features.append(conv(channels, 6 * channels, 1))
        self.features = nn.Sequential(*features)
        hidden = make_divisible(hidden * width_mult)
        self.classifier = (
            nn.Sequential(
                nn.Linear(6 * channels, hidden),
                activation(),
                nn.Dropout(dropout),
                nn.Linear(hidden, num_classes),
            )
            if num_classes
            else nn.Identity()
        )
        self.apply(initialise)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """The last map of each resolution, finest first, for other heads."""
        return pyramid(self.features, x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = x.mean(dim=(2, 3))  # (N, C, H, W) -> (N, C), global average pooling
        return self.classifier(x)


def mobilenet_v3_large(
    num_classes: int = 1000,
    in_channels: int = 3,
    width_mult: float = 1.0,
    stem_stride: int = 2,
    dropout: float = 0.2,
    minimalistic: bool = False,
) -> MobileNetV3:
    """MobileNetV3-Large: 5.48 M parameters, 217 M MACs at 224x224; minimalistic 3.92 M."""
    return MobileNetV3(
        LARGE, 1280, num_classes, in_channels, width_mult, stem_stride, dropout, minimalistic
    )


def mobilenet_v3_small(
    num_classes: int = 1000,
    in_channels: int = 3,
    width_mult: float = 1.0,
    stem_stride: int = 2,
    dropout: float = 0.2,
    minimalistic: bool = False,
) -> MobileNetV3:
    """MobileNetV3-Small: 2.54 M parameters, 57 M MACs at 224x224; minimalistic 2.04 M."""
    return MobileNetV3(
        SMALL, 1024, num_classes, in_channels, width_mult, stem_stride, dropout, minimalistic
    )
