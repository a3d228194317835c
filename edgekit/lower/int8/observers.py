"""What int8 numbers stand for: scales of weights, pixels and gates, and ranges of activations.

Which range its 256 steps cover is chosen by name:

    minmax       all that calibration saw
    histogram    the range of least squared error, found from both ends of a histogram (torchao)
    percentile   all but the 0.01 % at each end
    mse          of shrunken ranges the one of least squared error of rounding and clipping

A narrow range has finer steps, and clips what lies outside. After equalisation `minmax` is mostly
best; networks with heavy tails that cannot be equalised want one of the others.
"""

from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torchao.quantization.pt2e.observer import (
    HistogramObserver,
    MinMaxObserver,
    PerChannelMinMaxObserver,
)
from torchao.quantization.pt2e.quantizer.quantizer import (
    FixedQParamsQuantizationSpec,
    QuantizationSpec,
    QuantizationSpecBase,
)

from edgekit.spec import Scheme

Observer: TypeAlias = Literal["auto", "minmax", "histogram", "percentile", "mse"]
"""`auto`: `minmax`; `mse` for symmetric activations, `histogram` for networks with swish."""

OUTSIDE = 1e-4
"""Share of the values that `percentile` leaves out at each end."""
TRIED = torch.linspace(0.3, 1.0, 71)
"""Shares of the whole range that `mse` tries, each end by itself."""


class PercentileObserver(HistogramObserver):
    """Leaves out `OUTSIDE` of the values at each end."""

    def _non_linear_param_search(self) -> tuple[Tensor, Tensor]:
        share = self.histogram.cumsum(0) / self.histogram.sum()
        width = (self.max_val - self.min_val) / self.bins
        first = int((share <= OUTSIDE).sum())
        last = int((share < 1 - OUTSIDE).sum())
        return self.min_val + width * first, self.min_val + width * (last + 1)


class MseObserver(HistogramObserver):
    """Least expected squared error: step^2 / 12 for what is rounded, the distance for the rest."""

    def _non_linear_param_search(self) -> tuple[Tensor, Tensor]:
        low, high = float(self.min_val), float(self.max_val)
        for _ in range(2):  # each end in turn: the error is nearly a sum of one for each end
            high = self._best([(low, high * float(share)) for share in TRIED if high > 0])[1]
            low = self._best([(low * float(share), high) for share in TRIED if low < 0])[0]
        return torch.tensor(low), torch.tensor(high)

    def _best(self, ranges: list[tuple[float, float]]) -> tuple[float, float]:
        if not ranges:
            return float(self.min_val), float(self.max_val)
        return min(ranges, key=self._error)

    def _error(self, ends: tuple[float, float]) -> float:
        """Sum over the histogram, for one range."""
        low, high = ends
        width = float(self.max_val - self.min_val) / self.bins
        centres = float(self.min_val) + width * (torch.arange(self.bins) + 0.5)
        outside = (low - centres).clamp(min=0) + (centres - high).clamp(min=0)
        step = (high - low) / 255
        if self.qscheme == torch.per_tensor_symmetric:
            step = max(-low, high) / 127.5
        error = torch.where(outside > 0, outside**2, torch.tensor(step**2 / 12))
        return float((self.histogram * error).sum())


CLASSES: dict[str, type] = {
    "minmax": MinMaxObserver,
    "histogram": HistogramObserver,
    "percentile": PercentileObserver,
    "mse": MseObserver,
}

EPS = 2.0**-24
"""Smallest scale: low enough to never round a real range up, above zero for constant tensors."""

WEIGHT = QuantizationSpec(
    dtype=torch.int8,
    observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=EPS),
    quant_min=-127,
    quant_max=127,
    qscheme=torch.per_channel_symmetric,
    ch_axis=0,
)


def _fixed(scale: float) -> FixedQParamsQuantizationSpec:
    """0 to 255 * scale, whatever calibration says."""
    return FixedQParamsQuantizationSpec(
        dtype=torch.int8,
        scale=scale,
        zero_point=-128,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_tensor_affine,
    )


PIXEL = _fixed(1.0)
"""A camera pixel, 0 to 255, as int8 without loss: moved by 128."""


def activation(observer: str, scheme: Scheme) -> QuantizationSpec:
    """int8, one scale for the tensor; its range as `observer` has it."""
    qscheme = torch.per_tensor_affine if scheme == "affine" else torch.per_tensor_symmetric
    return QuantizationSpec(
        dtype=torch.int8,
        observer_or_fake_quant_ctr=CLASSES[observer].with_args(eps=EPS),  # type: ignore[attr-defined]
        quant_min=-128,
        quant_max=127,
        qscheme=qscheme,
    )


GATE: dict[Scheme, QuantizationSpecBase] = {
    "affine": _fixed(1 / 256),
    "symmetric": activation("histogram", "symmetric"),
}
"""What a sigmoid gives, 0 to 1: TFLite's integer kernel knows this scale alone."""
HARD_GATE: dict[Scheme, QuantizationSpecBase] = {
    "affine": _fixed(1 / 255),
    "symmetric": activation("histogram", "symmetric"),
}
"""What a hard sigmoid gives; where integers end at 0 and 1, they clip by themselves."""

DICTATED = frozenset({1.0, 1 / 256, 1 / 255})
"""Scales that stay as they are: of a pixel, of a sigmoid, of a hard sigmoid."""
