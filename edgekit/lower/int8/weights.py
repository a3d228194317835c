"""Integers of weights and biases whose products no runtime can round differently (see `exact`)."""

import torch
from torch import Tensor, fx

from edgekit.lower.forms.integer import CONVOLUTIONS, get_constant, set_constant
from edgekit.lower.int8.multiplier import LEAST
from edgekit.lower.int8.pairs import DEQUANTIZE, calls, result_of, scale_of, weights_of

LARGEST_BIAS = 2**22
"""In integers of s_in * s_weight: a float32 still holds each one exactly."""
LARGEST = 127
"""Integer of a weight; the least one is as small as this is large."""


def settle_weights(model: fx.GraphModule) -> None:
    """Move the scale of each channel's weights, in place; those of activations are final.

    Args:
        model: a converted int8 graph.
    """
    layers = [node for node in model.graph.nodes if node.target in CONVOLUTIONS]
    for layer in layers:
        _own(layer)
    for layer in layers:
        _requantise(model, layer)
    model.recompile()


def exact_scales(scales: Tensor, bias: Tensor | None, s_in: float, s_out: float) -> Tensor:
    """The least scales that will do, and with which M = s_in * s / s_out is `2^j / q`, q odd.

    Args:
        scales: (C,) float32, the least ones that cover the weights.
        bias: (C,); None where there is none.
        s_in: scale of what the layer takes.
        s_out: scale of what it gives.
    """
    wanted = scales.double()
    if bias is not None:
        wanted = torch.maximum(wanted, bias.double().abs() / (s_in * LARGEST_BIAS))
    return (at_least_each(wanted * s_in / s_out) * s_out / s_in).to(scales.dtype)


def at_least_each(wanted: Tensor) -> Tensor:
    """`multiplier.at_least` of each, (C,) float64."""
    mantissa, exponent = torch.frexp(wanted * LEAST)
    power = (exponent.long() - (mantissa == 0.5).long()).clamp(min=0)  # of 2, rounded up
    whole = torch.bitwise_left_shift(torch.ones_like(power), power).double()
    odd = (whole / wanted * (1 + 1e-9)).floor()
    return whole / (odd - 1 + odd % 2)


def round_weight(weight: Tensor, scales: Tensor) -> Tensor:
    """The weights that their integers stand for, float64; `scales` (C,) along the first axis."""
    steps = scales.double().view(-1, *[1] * (weight.dim() - 1))
    return (weight.double() / steps).round().clamp(-LARGEST, LARGEST) * steps


def round_bias(bias: Tensor, scales: Tensor, s_in: float) -> Tensor:
    """The biases that integers of s_in * s_weight stand for, float64."""
    unit = scales.double() * s_in
    return (bias.double() / unit).round() * unit


def _own(layer: fx.Node) -> None:
    """Give a layer that is used twice a quantisation of its weights for each use, in place.

    M depends on the scales around it, and they differ.
    """
    pair = weights_of(layer)
    if pair is None or all(len(node.users) == 1 for node in pair):
        return
    quantize, dequantize = pair
    with layer.graph.inserting_before(layer):
        own = layer.graph.node_copy(quantize)
        values = layer.graph.node_copy(dequantize)
    values.replace_input_with(quantize, own)
    layer.replace_input_with(dequantize, values)


def _requantise(model: fx.GraphModule, layer: fx.Node) -> None:
    """Weights and bias become exact multiples of their scales."""
    pair, made = weights_of(layer), result_of(layer)
    source = layer.args[0]
    if pair is None or made is None or not calls(source, DEQUANTIZE):
        return
    quantize, dequantize = pair
    s_in = scale_of(source)
    weight, scales = (get_constant(model, node) for node in quantize.args[:2])
    bias_node = layer.args[2] if len(layer.args) > 2 else None
    bias = None if bias_node is None else get_constant(model, bias_node)
    exact = exact_scales(scales, bias, s_in, scale_of(made))
    set_constant(model, quantize.args[0], round_weight(weight, exact), {quantize})
    set_constant(model, quantize.args[1], exact, {quantize, dequantize})
    if bias is not None:
        set_constant(model, bias_node, round_bias(bias, exact, s_in), {layer})
