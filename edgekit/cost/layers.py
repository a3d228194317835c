"""What a network costs: multiply-accumulates and parameters, per layer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from edgekit.spec import ImageSpec

COUNTED = (
    "MACs are those of convolutions and linear layers, as the papers count them: squeeze-and-"
    "excite's own convolutions count; batch norm, activations, pooling, additions and squeeze-and-"
    "excite's scaling do not, nor do products of two activations, as in attention."
)
"""The definition, to be printed beside the figures."""

_CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One run of a convolution or linear layer, for one image."""

    name: str
    kind: str
    """`conv 3x3 /2`, `depthwise 3x3`, `grouped 1x1 g=3`, `linear`."""
    macs: int
    parameters: int
    """Of weight and bias; 0 where an earlier run of the same layer counted them."""
    output: tuple[int, ...]
    """Shape, (1, C, H, W) or (1, C)."""


@dataclass(frozen=True, slots=True)
class Cost:
    """A whole network, for one image."""

    macs: int
    """Multiply-accumulates of convolutions and linear layers, as the papers count them."""
    parameters: int
    """All of them: batch norm's, which no layer has, included."""
    layers: tuple[LayerCost, ...]
    """In order of execution; a layer that runs twice is there twice."""


def cost(module: nn.Module, image: ImageSpec) -> Cost:
    """Run `module` once on a grey (1, 3, height, width) image and count.

    A convolution takes k_h * k_w * c_in / groups multiply-accumulates for each output value, a
    linear layer c_in. Calls of `torch.nn.functional` count as the modules do; transposed
    convolutions and products of two activations do not.
    """
    counter = _Counter(module)
    with torch.inference_mode(), counter:
        module(torch.zeros(1, 3, image.height, image.width))
    parameters = sum(p.numel() for p in module.parameters())
    return Cost(sum(layer.macs for layer in counter.layers), parameters, tuple(counter.layers))


class _Counter(TorchFunctionMode):
    """Sees each call of a convolution or of a linear layer, whoever makes it."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.layers: list[LayerCost] = []
        self._names = {id(p): name.rpartition(".")[0] for name, p in module.named_parameters()}
        self._counted: set[int] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in _CONVOLUTIONS:
            self._add(output, *_convolution(*args, **(kwargs or {})))
        elif func is torch.nn.functional.linear:
            self._add(output, *_linear(*args, **(kwargs or {})))
        return output

    def _add(self, output: Tensor, kind: str, weight: Tensor, bias: Tensor | None) -> None:
        name = self._names.get(id(weight), "") or f"layer {len(self.layers)}"
        new = {id(p): p.numel() for p in (weight, bias) if id(p) in self._names and p is not None}
        parameters = sum(count for key, count in new.items() if key not in self._counted)
        self._counted |= new.keys()
        macs = output.numel() * weight[0].numel()  # k_h * k_w * c_in / groups, or c_in
        self.layers.append(LayerCost(name, kind, macs, parameters, tuple(output.shape)))


def _linear(
    input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> tuple[str, Tensor, Tensor | None]:
    return "linear", weight, bias


def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> tuple[str, Tensor, Tensor | None]:
    """What kind of convolution this is, in words; the signature is that of `torch.conv2d`."""
    form = "conv" if groups == 1 else "depthwise" if weight.shape[1] == 1 else "grouped"
    words = [form, "x".join(map(str, weight.shape[2:]))]
    words += [f"/{step}" for step in _unless_one(stride)]
    words += [f"d={rate}" for rate in _unless_one(dilation)]
    words += [f"g={groups}"] if form == "grouped" else []
    return " ".join(words), weight, bias


def _unless_one(value: int | Sequence[int]) -> list[str]:
    """`(2, 2)` -> `["2"]`, `(2, 1)` -> `["2x1"]`, `(1, 1)` -> `[]`."""
    values = [value] if isinstance(value, int) else list(value)
    if set(values) == {1}:
        return []
    return [str(values[0]) if len(set(values)) == 1 else "x".join(map(str, values))]
