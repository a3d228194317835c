"""A convolution or linear layer with int8 weights, while a network learns.

Batch norm is folded into the weights before they are rounded, as it will be on the device. While
it is live its statistics are the batch's, so what is rounded is w * gamma / sigma with the running
sigma, and the result is normalised by the batch (Krishnamoorthi, 2018, section 3.2.2; Jacob et al.,
2018, section 3.2). Frozen, layer and norm are one.

The rounding is that of the lowering path, number by number: `int8.weights`.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekit.learn.qat.activation import Activation
from edgekit.learn.train.stride import StridedDepthwise
from edgekit.lower.int8.observers import EPS
from edgekit.lower.int8.weights import LARGEST, exact_scales, round_bias, round_weight

TINY = 1e-6
"""A channel that batch norm scales by less is not rounded while its statistics are live."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a convolution moves over its input; of a linear layer nothing is used."""

    linear: bool = False
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


class Straight(torch.autograd.Function):
    """The rounded numbers, with the gradient of those that were rounded."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, rounded: Tensor) -> Tensor:
        return rounded

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class Layer(nn.Module):
    """Weights, the batch norm that will be folded into them, and how they are rounded."""

    bias: nn.Parameter | None

    def __init__(
        self,
        geometry: Geometry,
        weight: nn.Parameter,
        bias: nn.Parameter | None,
        norm: nn.BatchNorm2d | None,
        sixth: bool,
        rounds: bool,
        around: tuple[Activation, Activation] | None,
    ) -> None:
        """Take over a layer's tensors.

        Args:
            geometry: of a convolution.
            weight: (O, I, h, w) or (O, I).
            bias: (O,).
            norm: takes what the layer gives; None: there is none, or it is folded already.
            sixth: a hard sigmoid's `x / 6 + 1/2` is folded into weight and bias.
            rounds: whether the weights are quantised.
            around: what the layer takes and gives, where both are quantised.
        """
        super().__init__()
        self.geometry, self.sixth, self.rounds = geometry, sixth, rounds
        self.weight, self.norm = weight, norm
        self.register_parameter("bias", bias)
        self._around = around  # a tuple: they are registered once, where they stand in the network

    def forward(self, x: Tensor) -> Tensor:
        if self.norm is not None and self.norm.training:
            y: Tensor = self.norm(self._run(x, self._live_weight(), self.bias))
            return y / 6 + 0.5 if self.sixth else y
        weight, bias = self.folded()
        if self.rounds:
            with torch.no_grad():
                rounded, shifted = self.rounded(weight, bias)
            weight = _straight(weight, rounded)
            bias = bias if bias is None or shifted is None else _straight(bias, shifted)
        return self._run(x, weight, bias)

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias as they are deployed, in float."""
        weight: Tensor = self.weight
        bias: Tensor | None = self.bias
        if self.norm is not None:
            norm, shape = self.norm, (-1, *[1] * (weight.dim() - 1))
            assert norm.running_mean is not None
            assert norm.running_var is not None
            inverse = torch.rsqrt(norm.running_var + norm.eps)
            start = torch.zeros_like(norm.running_mean) if bias is None else bias
            # The order of `fuse_conv_bn_weights`: the last bits are those of the build.
            weight = weight * (norm.weight * inverse).reshape(shape)
            bias = (start - norm.running_mean) * inverse * norm.weight + norm.bias
        if self.sixth:
            weight, bias = weight / 6, None if bias is None else bias / 6 + 0.5
        return weight, bias

    def rounded(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What their integers stand for, float32."""
        scales = (weight.abs().flatten(1).amax(1) / LARGEST).clamp(min=EPS)
        if self._around is None:
            steps = scales.view(-1, *[1] * (weight.dim() - 1))
            whole = (weight * (1 / steps)).round().clamp(-LARGEST, LARGEST)
            return whole * steps, bias
        (s_in, _), (s_out, _) = (each.numbers() for each in self._around)
        exact = exact_scales(scales, bias, s_in, s_out)
        shifted = None if bias is None else round_bias(bias, exact, s_in).to(bias.dtype)
        return round_weight(weight, exact).to(weight.dtype), shifted

    def _live_weight(self) -> Tensor:
        """The weights before batch norm, off by what rounding them after it will change."""
        if not self.rounds:
            return self.weight
        assert self.norm is not None
        assert self.norm.running_var is not None
        with torch.no_grad():
            weight, bias = self.folded()
            factor = self.norm.weight * torch.rsqrt(self.norm.running_var + self.norm.eps)
            factor = (factor / 6 if self.sixth else factor).view(-1, *[1] * (weight.dim() - 1))
            off = (self.rounded(weight, bias)[0] - weight) / factor
            changed = self.weight + torch.where(factor.abs() < TINY, 0.0, off)
        return _straight(self.weight, changed)

    def _run(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        how = self.geometry
        if how.linear:
            return F.linear(x, weight, bias)
        side = weight.shape[-1]
        depthwise = weight.shape[:2] == (how.groups, 1) and how.groups == x.shape[1]
        plain = how.dilation == (1, 1) and weight.shape[2] == side and side % 2 == 1
        if not depthwise or not plain or how.padding != (side // 2, side // 2):
            return F.conv2d(x, weight, bias, how.stride, how.padding, how.dilation, how.groups)
        if side == 1 and how.stride == (1, 1):  # a number a channel: no convolution is as fast
            y = x * weight.view(1, -1, 1, 1)
            return y if bias is None else y + bias.view(1, -1, 1, 1)
        if how.stride[0] != how.stride[1] or how.stride[0] == 1 or x.device.type != "cpu":
            return F.conv2d(x, weight, bias, how.stride, how.padding, how.dilation, how.groups)
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            x, weight = x.to(dtype), weight.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        y = StridedDepthwise.apply(x, weight, how.stride[0])  # type: ignore[no-untyped-call]
        return y if bias is None else y + bias.view(1, -1, 1, 1)


def _straight(value: Tensor, rounded: Tensor) -> Tensor:
    return Straight.apply(value, rounded)  # type: ignore[no-untyped-call]
