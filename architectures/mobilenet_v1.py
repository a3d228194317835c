"""MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications (2017).

Paper: https://arxiv.org/abs/1704.04861 (Howard et al.)
Original code: https://github.com/tensorflow/models/blob/master/research/slim/nets/mobilenet_v1.py

Neither torchvision nor the original gives PyTorch names, so the names are ours: `features.0` is the
stem, `features.1` to `features.13` are the blocks. The original code is followed where the paper
says nothing: ReLU6, batch norm's eps 0.001, dropout 0.001. Not followed: its batch-norm momentum
of 0.0003, which wants hundreds of thousands of steps (PyTorch's 0.1 here), and its padding of one
more below and to the right (even here). `stem_stride=1`, for inputs of about 64 pixels, is ours.
"""

from functools import partial

from torch import Tensor, nn

from architectures._layers import ConvBNAct, initialise, pyramid

__all__ = ("mobilenet_v1",)

# Table 1 of the paper: output channels, stride of the depthwise convolution.
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)

norm = partial(nn.BatchNorm2d, eps=0.001)


class DepthwiseSeparable(nn.Module):
    """A 3x3 convolution taken apart into two: one filter a channel, then a 1x1 that mixes them.

    A full convolution takes 9 * c_in * c_out multiply-accumulates a pixel. The depthwise 3x3, which
    filters, takes 9 * c_in, and the pointwise 1x1, which combines, c_in * c_out: together about
    8 to 9 times less (section 3.1). Batch norm and ReLU6 follow both.
    """

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.depthwise = ConvBNAct(c_in, c_in, 3, stride, groups=c_in, norm=norm)
        self.pointwise = ConvBNAct(c_in, c_out, 1, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class MobileNetV1(nn.Module):
    """(N, 3, H, W) normalised RGB -> (N, num_classes) logits.

    The paper's two knobs: `width_mult`, and the resolution, which is the input's own.

    Args:
        num_classes: size of the last layer; 0 builds none, and gives the pooled (N, 1024) features.
        in_channels: of the image, 3 for RGB.
        width_mult: the paper's alpha, of all channels: 1, 0.75, 0.5 or 0.25 there.
        stem_stride: stride of the first convolution, 2 in the paper.
        dropout: before the classifier, 0.001 in the original code.

    Raises:
        ValueError: `width_mult` is not above 0.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        width_mult: float = 1.0,
        stem_stride: int = 2,
        dropout: float = 0.001,
    ):
        super().__init__()
        if width_mult <= 0:
            raise ValueError(f"width_mult has to be above 0, but is {width_mult}")
        channels = max(8, int(32 * width_mult))
        features: list[nn.Module] = [ConvBNAct(in_channels, channels, 3, stem_stride, norm=norm)]
        for c, stride in BLOCKS:
            c_out = max(8, int(c * width_mult))
            features.append(DepthwiseSeparable(channels, c_out, stride))
            channels = c_out
        self.features = nn.Sequential(*features)
        self.classifier = (
            nn.Sequential(nn.Dropout(dropout), nn.Linear(channels, num_classes))
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


def mobilenet_v1(
    num_classes: int = 1000,
    in_channels: int = 3,
    width_mult: float = 1.0,
    stem_stride: int = 2,
    dropout: float = 0.001,
) -> MobileNetV1:
    """MobileNetV1; `width_mult` 1.0 at 224x224 has 4.2 M parameters and 569 M MACs."""
    return MobileNetV1(num_classes, in_channels, width_mult, stem_stride, dropout)
