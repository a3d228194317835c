"""ResNet: Deep Residual Learning for Image Recognition (He et al., 2015).

Paper: https://arxiv.org/abs/1512.03385
Original code: https://github.com/KaimingHe/deep-residual-networks

Names follow torchvision for ImageNet's networks, and https://github.com/akamaster/pytorch_resnet_cifar10
for CIFAR's, so checkpoints of both load as they are. As torchvision, and unlike the paper, a
bottleneck of ResNet-50 halves the resolution in its 3x3 convolution, not in its first 1x1 ("v1.5").
One argument is ours: `stem_stride=1` keeps the resolution in the first convolution.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from architectures._layers import initialise, pyramid

__all__ = ("cifar_resnet20", "cifar_resnet56", "resnet18", "resnet50")


def conv3x3(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)


def projection(c_in: int, c_out: int, stride: int) -> nn.Module:
    """Option B (section 3.3): a 1x1 convolution where the shape changes, else the identity."""
    if stride == 1 and c_in == c_out:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions learn what to *add* to their input (section 3.1 and 3.2).

    (N, c_in, H, W) -> (N, c_out, H/stride, W/stride). If the best map is close to the identity, it
    is easier to push the residual to zero than to fit an identity through two ReLU layers.
    """

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.conv1 = conv3x3(c_in, c_out, stride)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(c_out, c_out)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.downsample = projection(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    """1x1 reduces, 3x3 works on few channels, 1x1 restores (figure 5, right).

    (N, c_in, H, W) -> (N, c_out, H/stride, W/stride), by c_out / 4 channels within.
    """

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        thin = c_out // 4
        self.conv1 = nn.Conv2d(c_in, thin, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(thin)
        self.conv2 = conv3x3(thin, thin, stride)
        self.bn2 = nn.BatchNorm2d(thin)
        self.conv3 = nn.Conv2d(thin, c_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class PadShortcut(nn.Module):
    """Option A (section 4.1): every `stride`-th pixel, with zeros for the new channels.

    (N, c_in, H, W) -> (N, c_out, H/stride, W/stride), half of the zeros before and half after; no
    parameters, so that a residual network has as many as the plain one that it is compared with.
    """

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.stride = stride
        self.new = (c_out - c_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.new, self.new))


class CifarBlock(nn.Module):
    """`BasicBlock` with shortcuts of option A: (N, c_in, H, W) -> (N, c_out, H/stride, ...)."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.conv1 = conv3x3(c_in, c_out, stride)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = conv3x3(c_out, c_out)
        self.bn2 = nn.BatchNorm2d(c_out)
        is_same = stride == 1 and c_in == c_out
        self.shortcut = nn.Identity() if is_same else PadShortcut(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def layer(
    block: type[BasicBlock | Bottleneck | CifarBlock], c_in: int, c_out: int, n: int, stride: int
) -> nn.Sequential:
    """`n` blocks, the first of which changes the shape."""
    rest = (block(c_out, c_out, 1) for _ in range(n - 1))
    return nn.Sequential(block(c_in, c_out, stride), *rest)


class ResNet(nn.Module):
    """(N, 3, H, W) normalised RGB -> (N, num_classes) logits.

    Args:
        block: of two layers (18) or of three (50).
        repeats: blocks of each of the four stages (Table 1).
        channels: that leave each stage.
        num_classes: size of the last layer; 0 builds none, and gives the pooled features.
        in_channels: of the image, 3 for RGB.
        stem_stride: stride of the first convolution, 2 in the paper.
    """

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        repeats: tuple[int, int, int, int],
        channels: tuple[int, int, int, int],
        num_classes: int = 1000,
        in_channels: int = 3,
        stem_stride: int = 2,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stem_stride, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = layer(block, 64, channels[0], repeats[0], 1)
        self.layer2 = layer(block, channels[0], channels[1], repeats[1], 2)
        self.layer3 = layer(block, channels[1], channels[2], repeats[2], 2)
        self.layer4 = layer(block, channels[2], channels[3], repeats[3], 2)
        self.fc = nn.Linear(channels[3], num_classes) if num_classes else nn.Identity()
        self.apply(initialise)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """The last map of each resolution, finest first, for other heads."""
        x = self.relu(self.bn1(self.conv1(x)))
        stages = (self.layer1, self.layer2, self.layer3, self.layer4)
        return x, *pyramid((self.maxpool, *stages), x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = x.mean(dim=(2, 3))  # (N, C, H, W) -> (N, C), global average pooling
        return self.fc(x)


class CifarResNet(nn.Module):
    """(N, 3, 32, 32) normalised RGB -> (N, num_classes) logits; 6n + 2 layers (section 4.2).

    Args:
        n: blocks of each of the three stages, which have 16, 32 and 64 channels.
        num_classes: size of the last layer; 0 builds none, and gives the pooled (N, 64) features.
        in_channels: of the image, 3 for RGB.
    """

    def __init__(self, n: int, num_classes: int = 10, in_channels: int = 3):
        super().__init__()
        self.conv1 = conv3x3(in_channels, 16)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = layer(CifarBlock, 16, 16, n, 1)
        self.layer2 = layer(CifarBlock, 16, 32, n, 2)
        self.layer3 = layer(CifarBlock, 32, 64, n, 2)
        self.linear = nn.Linear(64, num_classes) if num_classes else nn.Identity()
        self.apply(initialise)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """The last map of each resolution, finest first, for other heads."""
        stages = (self.layer1, self.layer2, self.layer3)
        return pyramid(stages, F.relu(self.bn1(self.conv1(x))))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        x = x.mean(dim=(2, 3))  # (N, C, H, W) -> (N, C), global average pooling
        return self.linear(x)


def resnet18(num_classes: int = 1000, in_channels: int = 3, stem_stride: int = 2) -> ResNet:
    """ResNet-18: 11.7 M parameters, 1.81 G MACs at 224x224."""
    widths = (64, 128, 256, 512)
    return ResNet(BasicBlock, (2, 2, 2, 2), widths, num_classes, in_channels, stem_stride)


def resnet50(num_classes: int = 1000, in_channels: int = 3, stem_stride: int = 2) -> ResNet:
    """ResNet-50: 25.6 M parameters, 4.09 G MACs at 224x224."""
    widths = (256, 512, 1024, 2048)
    return ResNet(Bottleneck, (3, 4, 6, 3), widths, num_classes, in_channels, stem_stride)


def cifar_resnet20(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """ResNet-20 for 32x32 images: 0.27 M parameters, 41 M MACs."""
    return CifarResNet(3, num_classes, in_channels)


def cifar_resnet56(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """ResNet-56 for 32x32 images: 0.85 M parameters, 125 M MACs."""
    return CifarResNet(9, num_classes, in_channels)
