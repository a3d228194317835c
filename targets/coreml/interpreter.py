"""Execute an mlprogram with torch, where there is no Core ML: fp32, and fp16 as it would round.

What a float16 operator gives is rounded to float16; inside of it numbers are float32, as the Neural
Engine and the GPU accumulate, or better than they do. Core ML chooses for each operator where it
runs and in which order it adds up, so this is what the program *says*, and a device comes within
rounding of it: the numbers prove the lowering, not the silicon. Past 65504 float16 is infinite.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from targets.coreml.program import Name, Program, Step, read

SNR_DB = 30.0
"""Least SNR of a float16 layer against float32: what the gate asks of fp16 logits."""

Watch = Callable[[Step, int, Tensor], None]
"""Told each result: the step, which of its outputs, the values."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A layer whose float16 values are not what float32 gives."""

    layer: str
    kind: Literal["overflow", "snr"]
    """`overflow`: infinite or no number, where float32 is finite. `snr`: under the limit."""
    snr_db: float
    """Against float32, of all that came before it together; -inf after an overflow."""

    def __str__(self) -> str:
        if self.kind == "overflow":
            return f"{self.layer}: past float16's largest number, 65504"
        return f"{self.layer}: SNR {self.snr_db:.1f} dB against float32"


class Interpreter:
    """An mlprogram in memory. Not thread-safe."""

    def __init__(self, model: Path) -> None:
        """Read the package.

        Raises:
            BundleError, SpecError, MissingPackage: as `targets.coreml.program.read`.
        """
        self.program: Program = read(model)

    def run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """The output tensors of one image, (1, H, W, 3) uint8, by name; the caller owns them."""
        values = self.values(image)
        specs = self.program.outputs
        return {s.name: np.array(values[s.name].numpy(), dtype=s.dtype) for s in specs}

    def values(
        self, image: np.ndarray, exact: bool = False, watch: Watch | None = None
    ) -> dict[str, Any]:
        """Every value of the program by its name.

        Args:
            image: (1, H, W, 3) uint8; only read.
            exact: leave float16 results unrounded.
            watch: told each result.
        """
        planes = torch.from_numpy(image).permute(0, 3, 1, 2).float().contiguous()
        values: dict[str, Any] = {self.program.input.name: planes}
        with torch.inference_mode():
            for step in self.program.steps:
                given = {name: _look_up(value, values) for name, value in step.inputs.items()}
                result = step.run(given)
                made = result if isinstance(result, tuple) else (result,)
                for index, (name, value) in enumerate(zip(step.outputs, made, strict=True)):
                    if step.halves[index] and not exact:
                        value = value.half().float()
                    values[name] = value
                    if watch is not None and isinstance(value, Tensor):
                        watch(step, index, value)
        return values


def flags(
    interpreter: Interpreter, images: Sequence[np.ndarray], snr_db: float = SNR_DB
) -> list[Flag]:
    """The float16 layers that overflow, or that lose more than `snr_db` against float32.

    Both sides have the same weights, as stored. An overflow is flagged where it arises, not in
    every layer that it reaches. Empty for a program without float16.

    Args:
        interpreter: holds the program.
        images: (1, H, W, 3) uint8 each.
        snr_db: the limit.
    """
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    finite: dict[str, bool] = {}
    layers: dict[str, Step] = {}
    for image in images:
        if not interpreter.program.half:
            break
        exact = interpreter.values(image, exact=True)

        def compare(step: Step, index: int, value: Tensor, exact: dict[str, Any] = exact) -> None:
            name = step.outputs[index]
            finite[name] = finite.get(name, True) and bool(value.isfinite().all())
            if step.halves[index] and bool(exact[name].isfinite().all()):
                layers.setdefault(name, step)
                wanted = exact[name].double()
                signal[name] = signal.get(name, 0.0) + float((wanted**2).sum())
                apart = float(((wanted - value) ** 2).sum()) if finite[name] else math.inf
                noise[name] = noise.get(name, 0.0) + apart

        interpreter.values(image, watch=compare)
    found = []
    for name, step in layers.items():
        sources = [n.name for n in _names(step.inputs)]
        if not finite[name]:
            if all(finite.get(source, True) for source in sources):
                found.append(Flag(step.layer, "overflow", -math.inf))
        elif (snr := _snr(signal[name], noise[name])) < snr_db:
            found.append(Flag(step.layer, "snr", snr))
    return found


def _snr(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _look_up(value: Any, values: dict[str, Any]) -> Any:
    if isinstance(value, Name):
        return values[value.name]
    if isinstance(value, tuple):
        return tuple(_look_up(each, values) for each in value)
    return value


def _names(inputs: dict[str, Any]) -> list[Name]:
    found: list[Name] = []
    for value in inputs.values():
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, Name):
                found.append(each)
    return found
