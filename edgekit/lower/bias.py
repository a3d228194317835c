"""Bias correction: take out the mean error that quantising brings to each channel.

Rounding weights and clipping activations moves the mean of a layer's outputs; what follows adds
such moves up. Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction,
2019 (https://arxiv.org/abs/1906.04721), section 4.2, with means measured on images (appendix D):
layer by layer, each with all corrections before it in place.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, fx

from edgekit.lower.integer import CONVOLUTIONS, get_constant, set_constant
from edgekit.lower.pairs import DEQUANTIZE, calls, scale_of, weights_of

CORRECTED_ON = 16
"""Images that the means are taken over; each layer's outputs of all of them are held at once."""


def correct_biases(
    original: fx.GraphModule, quantised: fx.GraphModule, images: Sequence[Tensor]
) -> None:
    """Correct the biases of `quantised` in place; they stay integers of s_in * s_weight.

    Args:
        original: the float graph that was quantised.
        quantised: converted, its scales final.
        images: uint8 (1, H, W, 3) each.
    """
    float_means = [mean for _, mean, _ in _layers(original, images)]
    for (layer, mean, values), wanted in zip(_layers(quantised, images), float_means, strict=True):
        pair, source = weights_of(layer), layer.args[0]
        if pair is None or len(layer.args) < 3 or not calls(source, DEQUANTIZE):
            continue
        unit = get_constant(quantised, pair[0].args[1]).double() * scale_of(source)
        moved = ((wanted - mean) / unit).round() * unit
        bias = get_constant(quantised, layer.args[2])
        set_constant(quantised, layer.args[2], bias.double() + moved, {layer})
        shift = moved.to(bias.dtype).view(-1, *[1] * (values[0].dim() - 2))
        for value in values:
            value += shift  # what follows sees the corrected outputs


def _layers(
    module: fx.GraphModule, images: Sequence[Tensor]
) -> Iterator[tuple[fx.Node, Tensor, list[Tensor]]]:
    """Run all images node by node; at each layer its node, channel means (C,) and outputs.

    The outputs may be changed before the next layer is asked for.
    """
    runs = [fx.Interpreter(module) for _ in images]
    for run, image in zip(runs, images, strict=True):
        run.args_iter = iter((image,))
    last = {source: node for node in module.graph.nodes for source in node.all_input_nodes}
    for node in module.graph.nodes:
        for run in runs:
            run.env[node] = run.run_node(node)
        if node.target in CONVOLUTIONS:
            outputs = [run.env[node] for run in runs]
            means = [value.double().movedim(1, 0).flatten(1).mean(1) for value in outputs]
            yield node, torch.stack(means).mean(0), outputs
        for source in node.all_input_nodes:
            if last[source] is node:
                for run in runs:
                    del run.env[source]
