"""What several families share; each family's own idea stands in its own file."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round channels to a multiple of `divisor`, never more than 10 % below `value`.

    Raises ValueError: `value` is not above 0, as with a negative width multiplier.
    """
    if value <= 0:
        raise ValueError(f"{value} channels: a width multiplier has to be above 0")
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def relu() -> nn.Module:
    return nn.ReLU(inplace=True)


def relu6() -> nn.Module:
    return nn.ReLU6(inplace=True)


class ConvBNAct(nn.Sequential):
    """Convolution without bias, batch norm, activation: (N, c_in, H, W) -> (N, c_out, H/s, W/s).

    An even share of padding on each side keeps H and W at stride 1 (odd kernels).

    Args:
        c_in: input channels.
        c_out: output channels.
        kernel: side of the kernel, odd.
        stride: of the convolution.
        groups: 1, or `c_in` for a depthwise convolution.
        activation: makes the activation; None leaves the output linear.
        norm: makes the batch norm from its number of channels.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        activation: Callable[[], nn.Module] | None = relu6,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ):
        conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        super().__init__(conv, norm(c_out), *([activation()] if activation else []))


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Deal the channels of `groups` groups out in turn: 000111222 -> 012012012; (N, C, H, W) stays.

    Written (g, c/g), transposed to (c/g, g), read off again: each group that follows then holds
    channels of every group before (ShuffleNet, https://arxiv.org/abs/1707.01083, section 3.1).
    """
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def pyramid(blocks: Iterable[nn.Module], x: Tensor) -> tuple[Tensor, ...]:
    """Run `blocks` in order; keep the last map of each resolution, finest first.

    Heads other than a classifier's (detection, segmentation) start from these.
    """
    maps: list[Tensor] = []
    for block in blocks:
        x = block(x)
        if maps and maps[-1].shape[-2:] == x.shape[-2:]:
            maps.pop()
        maps.append(x)
    return tuple(maps)


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """He's normal by fan-out for convolutions, a narrow one for linear layers.

    For `nn.Module.apply`. He et al., 2015 (https://arxiv.org/abs/1502.01852), section 2.2.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0, 0.01)
        nn.init.zeros_(module.bias)


@torch.no_grad()
def initialise_shufflenet(module: nn.Module) -> None:
    """As the ShuffleNets' authors' code does; for `nn.Module.apply`.

    Normals of deviation 1 / (input channels of a group) for convolutions, 0.01 for linear layers; a
    slight bias for batch norm. Theirs has 0.01 for the first convolution, not 1/3: batch norm takes
    that factor out again.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0, 1 / module.weight.shape[1])
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.ones_(module.weight)
        nn.init.constant_(module.bias, 1e-4)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0, 0.01)
        nn.init.zeros_(module.bias)
