"""Which layers int8 hurts most, and which to keep in float so that accuracy falls no further.

A layer's sensitivity is the SNR of the logits when it alone is quantised: its weights, what it
takes and what it gives. The layers that cost most are kept in float until top-1 on labelled images
is within the budget.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from edgekit.device.golden import difference
from edgekit.device.image import read_image
from edgekit.device.measure import labelled
from edgekit.errors import CheckFailed, InputError
from edgekit.lower.calibrate import to_input
from edgekit.lower.forms.integer import CONVOLUTIONS
from edgekit.lower.int8.pairs import (
    DEQUANTIZE,
    QUANTIZE,
    calls,
    layer_name,
    quantized,
    result_of,
    weights_of,
)
from edgekit.lower.network import Network

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


@dataclass(frozen=True, slots=True)
class Budget:
    """How much of top-1 int8 may cost, and on which images."""

    points: float
    """Percent points."""
    inputs: tuple[np.ndarray, ...]
    """(1, H, W, 3) uint8, made by the image contract."""
    classes: tuple[int, ...]


def read_budget(points: float, folder: Path, network: Network) -> Budget:
    """The labelled images that a budget is measured on.

    Args:
        points: percent points of top-1.
        folder: one folder a class, named by its label; or images with a `labels.txt` that has
            lines like `photo.jpg 17`.
        network: says the image contract and the labels.

    Raises:
        InputError: the images have no labels, or the budget is no number of points.
        ImageError: an image cannot be read.
    """
    if not 0 <= points <= 100:
        raise InputError(f"--max-drop {points:g}: give percent points of top-1, as 1.0")
    lines = folder / "labels.txt"
    found = labelled.find(folder, lines if lines.is_file() else None, network.labels)
    if found.classes is None:
        raise InputError(
            f"--evaluate {folder}: nobody says what its images show; put them into one folder a "
            "class, named by its label, or beside a labels.txt with lines like 'photo.jpg 17'"
        )
    inputs = tuple(to_input(read_image(path), network.image) for path in found.paths)
    return Budget(points, inputs, found.classes)


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
    budget: Budget,
    original: ExportedProgram,
    quantise: Callable[[tuple[str, ...]], ExportedProgram],
    images: Sequence[Tensor],
    say: Callable[[str], None],
) -> tuple[ExportedProgram, tuple[str, ...]]:
    """Keep 0, 1, 2, 4, ... of the most sensitive layers in float, until the budget holds.

    Args:
        budget: what top-1 may fall by.
        original: the float program.
        quantise: makes an int8 program of it, with layers kept in float.
        images: uint8 (1, H, W, 3), that sensitivity is measured on.
        say: told of each try.

    Returns:
        The program, and the layers that it keeps in float.

    Raises:
        CheckFailed: with half of the layers in float it still falls by more.
    """
    wanted, best = top1(original, budget), float("inf")
    kept: tuple[str, ...] = ()
    program = quantise(kept)
    layers: list[str] = []
    while True:
        lost = wanted - top1(program, budget)
        best = min(best, lost)
        say(f"{len(kept)} layers in float: top-1 falls by {lost:.2f} points")
        if lost <= budget.points:
            return program, kept
        layers = layers or [each.layer for each in sensitivities(program, images)]
        count = max(1, 2 * len(kept))
        if count > max(1, len(layers) // 2):
            break
        kept = tuple(layers[:count])
        program = quantise(kept)
    raise CheckFailed(
        f"int8 loses {best:.2f} points of top-1 at best, with half of the layers in float, and "
        f"--max-drop allows {budget.points:g}: allow more, give more calibration images like those "
        "the camera will see, try --observer mse, or build --precision fp16"
    )


def top1(program: ExportedProgram, budget: Budget) -> float:
    """Percent of the budget's images that a program classifies right."""
    module = program.module(check_guards=False)
    with torch.inference_mode():
        answers = [int(module(torch.from_numpy(image)).argmax()) for image in budget.inputs]
    return 100 * float(np.mean(np.array(answers) == np.array(budget.classes)))


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
