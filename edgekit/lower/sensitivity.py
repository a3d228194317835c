"""Which layers int8 hurts most, and which to keep in float so that accuracy falls no further.

A layer's sensitivity is the SNR of the logits when it alone is quantised: its weights, what it
takes and what it gives. The layers that cost most are kept in float until top-1 on labelled images
is within the budget.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from edgekit.device.golden import difference
from edgekit.errors import CheckFailed
from edgekit.lower.integer import CONVOLUTIONS
from edgekit.lower.pairs import (
    DEQUANTIZE,
    QUANTIZE,
    calls,
    layer_name,
    quantized,
    result_of,
    weights_of,
)

IMAGES = 4
"""Images that each layer is tried on."""
PAIRS = {
    QUANTIZE,
    DEQUANTIZE,
    quantized.quantize_per_channel.default,
    quantized.dequantize_per_channel.default,
}


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What int8 costs in one layer."""

    layer: str
    """`features.0.0`, as `--keep-float` takes it."""
    snr_db: float
    """dB, of the logits, when this layer alone is quantised; the lower, the more it costs."""


def sensitivities(program: ExportedProgram, images: Sequence[Tensor]) -> list[Sensitivity]:
    """Of every convolution and linear layer that is quantised; the most sensitive first.

    Args:
        program: quantised.
        images: uint8 (1, H, W, 3); the first `IMAGES` are used.
    """
    module = program.module(check_guards=False)
    few = images[:IMAGES]
    expected = _logits(module, set(), few)
    found = []
    for layer in [n for n in module.graph.nodes if n.target in CONVOLUTIONS]:
        active = _around(layer)
        if active and not layer_name(layer).startswith("normalise"):
            apart = difference(expected, _logits(module, active, few))
            found.append(Sensitivity(layer_name(layer), round(apart.snr_db, 1)))
    return sorted(found, key=lambda each: each.snr_db)


def keep_within(
    points: float,
    layers: Sequence[Sensitivity],
    quantise: Callable[[tuple[str, ...]], ExportedProgram],
    drop: Callable[[ExportedProgram], float],
    say: Callable[[str], None],
) -> tuple[ExportedProgram, tuple[str, ...]]:
    """Keep 0, 1, 2, 4, ... of the most sensitive layers in float, until the budget holds.

    Args:
        points: by how much top-1 may fall, in percent points.
        layers: the most sensitive first.
        quantise: makes the program anew, with layers kept in float.
        drop: what a program loses on the labelled images, in percent points.
        say: told of each try.

    Returns:
        The program, and the layers that it keeps in float.

    Raises:
        CheckFailed: with half of the layers in float it still falls by more.
    """
    count, best = 0, float("inf")
    while count <= max(1, len(layers) // 2):
        kept = tuple(each.layer for each in layers[:count])
        program = quantise(kept)
        lost = drop(program)
        best = min(best, lost)
        say(f"{len(kept)} layers in float: top-1 falls by {lost:.2f} points")
        if lost <= points:
            return program, kept
        count = max(1, 2 * count)
    raise CheckFailed(
        f"int8 loses {best:.2f} points of top-1 at best, with half of the layers in float, and "
        f"--max-drop allows {points:g}: allow more, give more calibration images like those the "
        "camera will see, try --observer mse, or build --precision fp16"
    )


def top1(program: ExportedProgram, images: Sequence[np.ndarray], labels: Sequence[int]) -> float:
    """Percent of labelled images (1, H, W, 3) uint8 that a program classifies right."""
    module = program.module(check_guards=False)
    with torch.inference_mode():
        answers = [int(module(torch.from_numpy(image)).argmax()) for image in images]
    return 100 * float(np.mean(np.array(answers) == np.array(labels)))


def _around(layer: fx.Node) -> set[fx.Node]:
    """The pairs that quantise a layer's weights, input and output; empty if it is in float."""
    pair = weights_of(layer)
    if pair is None:
        return set()
    active = {*pair}
    source, made = layer.args[0], result_of(layer)
    taken = source.all_input_nodes if calls(source, DEQUANTIZE) else []
    for quantize in (*taken, *([made] if made else [])):
        active |= {quantize, *quantize.users}
    return active


def _logits(module: fx.GraphModule, active: set[fx.Node], images: Sequence[Tensor]) -> np.ndarray:
    """(N, classes), with no pair but the `active` ones doing anything."""

    class Some(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            if n.target in PAIRS and n not in active:
                return self.env[n.all_input_nodes[0]]
            return super().run_node(n)

    with torch.inference_mode():
        return np.concatenate([Some(module).run(image).numpy() for image in images])
