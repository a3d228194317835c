"""Bias correction: take out the mean error that quantising brings to each channel.

Rounding weights and clipping activations moves the mean of a layer's outputs; what follows adds
such moves up. Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction,
2019 (https://arxiv.org/abs/1906.04721), section 4.2, with means measured on images (appendix D):
layer by layer, each with all corrections before it in place.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from edgekit.lower.export import aten
from edgekit.lower.forms.integer import CONVOLUTIONS, get_constant, set_constant
from edgekit.lower.int8.pairs import DEQUANTIZE, calls, scale_of, weights_of

CORRECTED_ON = 16
"""Images that the means are taken over; each layer's outputs of all of them are held at once."""


def correct_biases(
    original: fx.GraphModule, quantised: fx.GraphModule, images: Sequence[Tensor]
) -> None:
    """Correct the biases of `quantised` in place.

    Between int8 activations they stay integers of s_in * s_weight.

    Args:
        original: the float graph that was quantised.
        quantised: converted, its scales final.
        images: uint8 (1, H, W, 3) each.
    """
    float_means = [ran.mean() for ran in walk(original, images)]
    for ran, wanted in zip(walk(quantised, images), float_means, strict=True):
        layer, pair, source = ran.layer, weights_of(ran.layer), ran.layer.args[0]
        if pair is None or not isinstance(layer.args[2] if layer.args[2:] else None, fx.Node):
            continue
        moved = wanted - ran.mean()
        if calls(source, DEQUANTIZE):
            unit = get_constant(quantised, pair[0].args[1]).double() * scale_of(source)
            moved = (moved / unit).round() * unit
        bias = get_constant(quantised, layer.args[2])
        set_constant(quantised, layer.args[2], bias.double() + moved, {layer})
        for value in ran.outputs:  # what follows sees the corrected outputs
            value.movedim(ran.axis, -1).add_(moved.to(bias.dtype))


@dataclass(frozen=True, slots=True)
class Ran:
    """A convolution or linear layer, run on every image."""

    layer: fx.Node
    inputs: list[Tensor]
    outputs: list[Tensor]
    """May be changed before the next layer is asked for."""

    @property
    def axis(self) -> int:
        """Of the channels in the outputs."""
        return self.outputs[0].dim() - 1 if self.layer.target is aten.linear.default else 1

    def mean(self) -> Tensor:
        """(C,) float64, of the outputs' channels."""
        rows = [value.double().movedim(self.axis, 0).flatten(1) for value in self.outputs]
        return torch.stack([row.mean(1) for row in rows]).mean(0)


def walk(module: fx.GraphModule, images: Sequence[Tensor]) -> Iterator[Ran]:
    """Run all images node by node, and stop at each layer."""
    runs = [fx.Interpreter(module) for _ in images]
    for run, image in zip(runs, images, strict=True):
        run.args_iter = iter((image,))
    last = {source: node for node in module.graph.nodes for source in node.all_input_nodes}
    for node in module.graph.nodes:
        for run in runs:
            run.env[node] = run.run_node(node)
        if node.target in CONVOLUTIONS:
            inputs, outputs = ([run.env[n] for run in runs] for n in (node.args[0], node))
            yield Ran(node, inputs, outputs)
        for source in node.all_input_nodes:
            if last[source] is node:
                for run in runs:
                    del run.env[source]
