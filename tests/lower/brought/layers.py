"""Activations, normalisations and poolings as people write them: (N, 3, 32, 32) -> (N, 10)."""

# mypy: disable-error-code="no-any-return"

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Between(nn.Module):
    """Two convolutions with something between and after them."""

    def __init__(self, layer: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.one, self.first = nn.Conv2d(3, 16, 3, stride=2, padding=1), layer(16)
        self.two, self.second = nn.Conv2d(16, 16, 3, padding=1), layer(16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.one(x))
        x = self.second(self.two(x))
        return self.head(x.mean((2, 3)))


class Function(nn.Module):
    """An activation that is written out in forward()."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def silu() -> nn.Module:
    return Between(lambda _: nn.SiLU(inplace=True))


def gelu() -> nn.Module:
    return Between(lambda _: nn.GELU())


def gelu_tanh() -> nn.Module:
    return Between(lambda _: nn.GELU(approximate="tanh"))


def mish() -> nn.Module:
    return Between(lambda _: nn.Mish())


def hardswish() -> nn.Module:
    return Between(lambda _: nn.Hardswish())


def prelu() -> nn.Module:
    return Between(nn.PReLU)


def leaky_relu() -> nn.Module:
    return Between(lambda _: nn.LeakyReLU(0.1))


def elu() -> nn.Module:
    return Between(lambda _: nn.ELU())


def tanh() -> nn.Module:
    return Between(lambda _: nn.Tanh())


def softplus() -> nn.Module:
    return Between(lambda _: nn.Softplus())


def relu6_function() -> nn.Module:
    return Between(lambda _: Function(F.relu6))


def clamped() -> nn.Module:
    return Between(lambda _: Function(lambda x: x.clamp(0, 6)))


def hard_sigmoid_by_hand() -> nn.Module:
    return Between(lambda _: Function(lambda x: x * (F.relu6(x + 3) / 6)))


def keras_hard_sigmoid() -> nn.Module:
    return Between(lambda _: Function(lambda x: x * (0.2 * x + 0.5).clamp(0, 1)))


def squared_relu() -> nn.Module:
    return Between(lambda _: Function(lambda x: F.relu(x) ** 2))


def group_norm() -> nn.Module:
    return Between(lambda channels: nn.Sequential(nn.GroupNorm(4, channels), nn.ReLU()))


def instance_norm() -> nn.Module:
    return Between(
        lambda channels: nn.Sequential(nn.InstanceNorm2d(channels, affine=True), nn.ReLU())
    )


def layer_norm() -> nn.Module:
    return Between(lambda _: nn.Sequential(nn.LayerNorm([16, 16, 16]), nn.ReLU()))


def local_response_norm() -> nn.Module:
    return Between(lambda _: nn.Sequential(nn.ReLU(), nn.LocalResponseNorm(5)))


def l2_normalised() -> nn.Module:
    return Between(lambda _: Function(lambda x: F.normalize(x, dim=1)))


def learned_scale() -> nn.Module:
    class Scale(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.7))

        def forward(self, x: Tensor) -> Tensor:
            return (x * self.scale + 0.1).relu() - 0.05

    return Between(Scale)


class Pooled(nn.Module):
    """A convolution, then `pool`, then a classifier of what is left."""

    def __init__(self, pool: Callable[[Tensor], Tensor], features: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.pool = pool
        self.head = nn.Linear(features, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.conv(x), 0.2)
        return self.head(self.pool(x).flatten(1))


def average_pooled() -> nn.Module:
    return Pooled(nn.AdaptiveAvgPool2d(1), 16)


def max_pooled() -> nn.Module:
    return Pooled(nn.AdaptiveMaxPool2d(1), 16)


def amax() -> nn.Module:
    return Pooled(lambda x: x.amax((2, 3)), 16)


def mean_and_max() -> nn.Module:
    return Pooled(lambda x: torch.cat([x.mean((-2, -1)), x.amax((-2, -1))], 1), 32)


def mean_of_mean() -> nn.Module:
    return Pooled(lambda x: x.mean(3).mean(2), 16)


def average_pooled_by_size() -> nn.Module:
    return Pooled(lambda x: F.avg_pool2d(x, x.shape[2:]), 16)


def generalised_mean() -> nn.Module:
    return Pooled(lambda x: x.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3), 16)


def pooled_to_2x2() -> nn.Module:
    return Pooled(nn.AdaptiveAvgPool2d((2, 2)), 64)


def pooled_to_3x3() -> nn.Module:
    return Pooled(nn.AdaptiveAvgPool2d(3), 144)


def flattened() -> nn.Module:
    return Pooled(nn.MaxPool2d(4), 256)


def pooled_with_padding() -> nn.Module:
    return Pooled(nn.Sequential(nn.MaxPool2d(3, 2, padding=1), nn.AvgPool2d(3, 2, padding=1)), 256)


def power_pooled() -> nn.Module:
    return Pooled(nn.LPPool2d(2, 4), 256)
