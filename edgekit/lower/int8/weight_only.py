"""Weights as integers behind float arithmetic: small files, without a calibration set.

    weight -> layer                                                      before
    weight -> quantize_per_channel -> dequantize_per_channel -> layer    after

Symmetric, one scale for each output channel: int8 is -127 to 127, int4 is -7 to 7. The scale is the
one with the least squared error; in int4 the weights are rounded for their layer's outputs
(`rounding`); the mean error that is left is taken out of the biases (`bias`). The pairs stay in the
program, as those of int8 do: each compiler folds the same integers.

In `int4-weights` a layer of few weights a channel has int8 ones, as depthwise convolutions have:
such layers are a small part of the file, and lose the most.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from edgekit.errors import InputError, SpecError
from edgekit.lower.export import aten, quantized
from edgekit.lower.forms.integer import CONVOLUTIONS, get_constant, set_constant
from edgekit.lower.int8.bias import correct_biases, walk
from edgekit.lower.int8.rounding import moments, round_rows
from edgekit.spec import WEIGHT_ONLY, Precision

LAYERS = CONVOLUTIONS | {aten.conv2d.padding}
OURS = "normalise."
"""Three weights that turn pixels into the network's own range; they stay float."""
FEW = 64
"""Weights a channel, under which `int4-weights` has int8 ones."""
TRIED = 31
"""Scales that are tried for a channel, from `LEAST` to 1 of what reaches its largest weight."""
LEAST = 0.4

TENSORRT = "TensorrtExecutionProvider"
WHY_NOT = {
    "executorch": "XNNPACK takes no integer weights for float convolutions there",
    TENSORRT: "TensorRT takes no integer weights for float convolutions",
}
"""By backend or execution provider."""


@dataclass(frozen=True, slots=True)
class WeightOnly:
    """A program whose weights are integers."""

    program: ExportedProgram
    notes: tuple[str, ...]
    """For people: of how many layers, in how many bits."""


def check(precision: Precision, backend: str, providers: Sequence[str]) -> None:
    """Refuse what cannot hold integer weights alone.

    Raises:
        InputError: says why, and what can.
    """
    given = TENSORRT if TENSORRT in providers else backend
    if precision in WEIGHT_ONLY and given in WHY_NOT:
        raise InputError(
            f"--precision {precision} cannot be had of {backend}: {WHY_NOT[given]}; "
            "use --precision fp16, or another backend: litert, onnx, openvino, coreml"
        )


def quantise_weights(
    program: ExportedProgram, images: Sequence[Tensor], precision: Precision
) -> WeightOnly:
    """Give each convolution and linear layer integer weights.

    Args:
        program: float; not changed.
        images: uint8 (1, H, W, 3) each, that weights are rounded and biases corrected on; a few:
            what a layer gives of all of them is held at once.
        precision: `int8-weights` or `int4-weights`.

    Raises:
        SpecError: nothing in the network has weights of its own.
    """
    original, module = (program.module(check_guards=False) for _ in range(2))
    pairs: dict[str, _Pair] = {}
    for node in [n for n in module.graph.nodes if n.target in LAYERS]:
        weight = node.args[1]
        name = str(weight.target)
        if weight.op != "get_attr" or name.startswith(OURS):
            continue
        if name not in pairs:
            pairs[name] = _pair(module, weight, precision)
        node.replace_input_with(weight, pairs[name].dequantize)
    if not pairs:
        raise SpecError(
            "no convolution or linear layer was found whose weights could be stored as integers: "
            "use --precision fp16"
        )
    module.graph.lint()
    module.recompile()
    with torch.inference_mode():
        _round(original, module, pairs, images)
        correct_biases(original, module, images)
    return WeightOnly(torch.export.export(module, (images[0],)), (_said(list(pairs.values())),))


@dataclass(frozen=True, slots=True)
class _Pair:
    """What stands behind a weight."""

    weight: fx.Node
    dequantize: fx.Node
    scales: Tensor
    """(O,)."""
    bits: int

    @property
    def largest(self) -> int:
        return int(2 ** (self.bits - 1) - 1)


def _pair(module: fx.GraphModule, weight: fx.Node, precision: Precision) -> _Pair:
    """Insert quantise and dequantise after `weight`."""
    value = get_constant(module, weight)
    bits = 4 if precision == "int4-weights" and value[0].numel() >= FEW else 8
    largest = 2 ** (bits - 1) - 1
    scales = channel_scales(value, largest)
    name = str(weight.target).replace(".", "_")
    constants = []
    for kind, constant in (("scale", scales), ("zero_point", torch.zeros(len(scales)).long())):
        module.register_buffer(f"{name}_{kind}", constant)
        with module.graph.inserting_after(weight):
            constants.append(module.graph.get_attr(f"{name}_{kind}"))
        constants[-1].meta = {"val": constant}
    node, last = weight, constants[0]
    for target in (quantized.quantize_per_channel, quantized.dequantize_per_channel):
        with module.graph.inserting_after(last):
            arguments = (node, *constants, 0, -largest, largest, torch.int8)
            node = last = module.graph.call_function(target.default, arguments)
        node.meta = dict(weight.meta)
    return _Pair(weight, node, scales, bits)


def _round(
    original: fx.GraphModule,
    module: fx.GraphModule,
    pairs: Mapping[str, _Pair],
    images: Sequence[Tensor],
) -> None:
    """Move each 4-bit weight of `module` to the integer that is best for its layer's outputs."""
    wanted = {name: pair for name, pair in pairs.items() if pair.bits == 4}
    for ran in walk(original, images) if wanted else ():
        weight = ran.layer.args[1]
        pair = wanted.pop(str(weight.target), None) if isinstance(weight, fx.Node) else None
        if pair is None:
            continue
        value = get_constant(module, pair.weight)
        found = moments(ran.layer, ran.inputs)
        groups = zip(value.flatten(1).chunk(len(found)), pair.scales.chunk(len(found)), found,
                     strict=True)  # fmt: skip
        integers = torch.cat([round_rows(r, s, pair.largest, each) for r, s, each in groups])
        stored = (integers.float() * pair.scales[:, None]).reshape(value.shape)
        set_constant(module, pair.weight, stored, set(pair.weight.users))


def channel_scales(weight: Tensor, largest: int) -> Tensor:
    """The scale of each output channel, (O,), whose integers have the least squared error.

    Args:
        weight: (O, ...).
        largest: integer.
    """
    rows = weight.flatten(1)
    whole = rows.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny * 256) / largest
    best, least = whole, torch.full_like(whole, torch.inf)
    for part in torch.linspace(LEAST, 1, TRIED).tolist():
        scale = whole * part
        integers = (rows / scale[:, None]).round().clamp(-largest, largest)
        error = (integers * scale[:, None] - rows).square().sum(1)
        best = torch.where(error < least, scale, best)
        least = torch.minimum(error, least)
    return best


def _said(pairs: Sequence[_Pair]) -> str:
    bits = [pair.bits for pair in pairs]
    counts = [f"int{n} weights in {bits.count(n)} layers" for n in (4, 8) if n in bits]
    return f"{' and '.join(counts)}; float32 arithmetic"
