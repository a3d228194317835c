"""MobileNetV2: Inverted Residuals and Linear Bottlenecks (Sandler et al., 2018).

Paper: https://arxiv.org/abs/1801.04381
Original code: https://github.com/tensorflow/models/tree/master/research/slim/nets/mobilenet

Module names follow torchvision, so its checkpoints load as they are. One argument is ours:
`stem_stride=1` keeps the resolution in the first convolution, for inputs of about 64 pixels.
"""

from torch import Tensor, nn

from architectures._layers import ConvBNAct, initialise, make_divisible, pyramid

__all__ = ("mobilenet_v2",)

# Table 2 of the paper: expansion ratio t, output channels c, repeats n, stride s of the first.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """Expand 1x1 -> depthwise 3x3 -> project 1x1; the skip joins the two thin ends.

    The projection is a *linear* bottleneck: no activation follows it, because ReLU would destroy
    information in a low-dimensional space (section 3.2). The skip joins the bottlenecks, not the
    wide layers between them, so that what must stay in memory is thin (section 3.3, 5.1).
    """

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int):
        super().__init__()
        wide = c_in * expansion
        self.use_res_connect = stride == 1 and c_in == c_out
        expand = [ConvBNAct(c_in, wide, 1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            ConvBNAct(wide, wide, 3, stride, groups=wide),
            nn.Conv2d(wide, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNetV2(nn.Module):
    """(N, 3, H, W) normalised RGB -> (N, num_classes) logits.

    Args:
        num_classes: size of the last layer; 0 builds none, and gives the pooled (N, 1280) features.
        in_channels: of the image, 3 for RGB.
        width_mult: the paper's width multiplier, of all channels; below 1 the last stay 1280.
        stem_stride: stride of the first convolution, 2 in the paper.
        dropout: before the classifier, 0.2 in the original code.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        width_mult: float = 1.0,
        stem_stride: int = 2,
        dropout: float = 0.2,
    ):
        super().__init__()
        channels = make_divisible(32 * width_mult)
        last = make_divisible(1280 * max(1.0, width_mult))
        features: list[nn.Module] = [ConvBNAct(in_channels, channels, 3, stem_stride)]
        for t, c, n, s in STAGES:
            c_out = make_divisible(c * width_mult)
            for i in range(n):
                features.append(InvertedResidual(channels, c_out, s if i == 0 else 1, t))
                channels = c_out
        features.append(ConvBNAct(channels, last, 1))
        self.features = nn.Sequential(*features)
        self.classifier = (
            nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
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


def mobilenet_v2(
    num_classes: int = 1000,
    in_channels: int = 3,
    width_mult: float = 1.0,
    stem_stride: int = 2,
    dropout: float = 0.2,
) -> MobileNetV2:
    """MobileNetV2; `width_mult` 1.0 at 224x224 has 3.5 M parameters and 300 M MACs."""
    return MobileNetV2(num_classes, in_channels, width_mult, stem_stride, dropout)
