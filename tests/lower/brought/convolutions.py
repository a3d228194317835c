"""Convolutions, paddings and resampling as people write them: (N, 3, 32, 32) -> (N, 10)."""

# mypy: disable-error-code="no-any-return"

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Features(nn.Module):
    """A body of convolutions, a global mean, a classifier."""

    def __init__(self, *body: nn.Module, channels: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)
        self.head = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


def dilated() -> nn.Module:
    return Features(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=2, dilation=2),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=(4, 1), dilation=(4, 1)),
    )


def transposed() -> nn.Module:
    return Features(
        nn.Conv2d(3, 16, 3, stride=4, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 16, 4, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 16, 2, stride=2),
    )


def transposed_odd() -> nn.Module:
    return Features(
        nn.Conv2d(3, 16, 3, stride=4, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 16, 3, stride=2, padding=1, output_padding=1),
    )


def transposed_grouped() -> nn.Module:
    return Features(
        nn.Conv2d(3, 16, 3, stride=4, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 16, 2, stride=2, groups=4),
    )


def grouped() -> nn.Module:
    return Features(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, groups=4),
        nn.ReLU(),
        nn.Conv2d(32, 16, 1, groups=2),
    )


def channel_multiplier() -> nn.Module:
    return Features(
        nn.Conv2d(3, 12, 3, padding=1, groups=3), nn.ReLU6(), nn.Conv2d(12, 16, 3, stride=3)
    )


def padded_on_one_side() -> nn.Module:
    return Features(
        nn.ZeroPad2d((0, 1, 0, 1)),
        nn.Conv2d(3, 16, 3, stride=2),
        nn.ReLU(),
        nn.ZeroPad2d((2, 1, 0, 3)),
        nn.Conv2d(16, 16, 3),
    )


def same() -> nn.Module:
    return Features(
        nn.Conv2d(3, 16, 4, padding="same"),
        nn.ReLU(),
        nn.Conv2d(16, 16, (3, 5), padding="same", dilation=2),
    )


def reflected() -> nn.Module:
    return Features(
        nn.ReflectionPad2d(2),
        nn.Conv2d(3, 16, 5),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect"),
    )


def replicated() -> nn.Module:
    return Features(
        nn.Conv2d(3, 16, 3, padding=1, padding_mode="replicate"),
        nn.ReLU(),
        nn.ReplicationPad2d((1, 2, 0, 1)),
        nn.Conv2d(16, 16, 3),
    )


def circular() -> nn.Module:
    return Features(nn.Conv2d(3, 16, 3, padding=1, padding_mode="circular"), nn.ReLU())


def preactivation() -> nn.Module:
    def unit() -> nn.Sequential:
        return nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))

    return Features(nn.Conv2d(3, 16, 3, stride=2), unit(), unit(), nn.BatchNorm2d(16), nn.ReLU())


class Standardised(nn.Conv2d):
    """Weights made at run time (Qiao et al., Weight Standardization)."""

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        std = self.weight.std((1, 2, 3), keepdim=True) + 1e-5
        return F.conv2d(x, (self.weight - mean) / std, self.bias, self.stride, self.padding)


def weight_standardised() -> nn.Module:
    return Features(Standardised(3, 16, 3, 2), nn.ReLU(), Standardised(16, 16, 3))


class Blur(nn.Module):
    """A fixed binomial filter before subsampling, as in anti-aliased networks."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", torch.outer(row, row).repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (1, 1, 1, 1), mode="reflect")
        return F.conv2d(x, self.get_buffer("kernel"), stride=2, groups=x.shape[1])


def blur_pooled() -> nn.Module:
    return Features(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), Blur(16), nn.Conv2d(16, 16, 3), nn.ReLU()
    )


class UNet(nn.Module):
    """Down, up, and the skip beside it."""

    def __init__(self, mode: str, align_corners: bool | None = None) -> None:
        super().__init__()
        self.mode, self.align_corners = mode, align_corners
        self.down = nn.Conv2d(3, 8, 3, padding=1)
        self.deep = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.up = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x).relu()
        x = self.deep(skip).relu()
        size = skip.shape[2:]
        x = F.interpolate(x, size=size, mode=self.mode, align_corners=self.align_corners)
        x = self.up(torch.cat([x, skip], dim=1)).relu()
        return self.head(x.mean((2, 3)))


def unet_nearest() -> nn.Module:
    return UNet("nearest")


def unet_bilinear() -> nn.Module:
    return UNet("bilinear", align_corners=False)


def unet_aligned() -> nn.Module:
    return UNet("bilinear", align_corners=True)


def unet_bicubic() -> nn.Module:
    return UNet("bicubic", align_corners=False)


def pixel_shuffled() -> nn.Module:
    return Features(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.PixelShuffle(2),
        nn.Conv2d(4, 16, 3),
        nn.ReLU(),
    )


def space_to_depth() -> nn.Module:
    return Features(nn.PixelUnshuffle(4), nn.Conv2d(48, 16, 3, padding=1), nn.ReLU())
