"""A Core ML bundle on the device: Core ML itself on macOS, our interpreter elsewhere.

On an iPhone an app opens the package; Python does not run there. On Linux nothing runs Core ML: the
interpreter executes the program, so that a build is proven, `verify` replays the golden frames and
`run` answers. It is no way to serve, and its times say nothing of a device.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import BundleError, EdgekitError, MissingPackage, SpecError
from edgekit.spec import Fill, SessionOptions, TensorSpec
from targets.lending import lend_buffers

Predict = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""One image, (1, H, W, 3) uint8 -> the output tensors by name, the caller's own."""

UNITS = {
    "": "ALL",
    "all": "ALL",
    "cpu_and_ane": "CPU_AND_NE",
    "cpu_and_gpu": "CPU_AND_GPU",
    "cpu_only": "CPU_ONLY",
}
"""`SessionOptions.compute_units` -> coremltools' `ComputeUnit`."""


def load(model: Path, options: SessionOptions) -> "CoreMlSession":
    """Open an `.mlpackage`.

    The package is read, and on macOS compiled to a folder of the system's: it may be replaced while
    the session runs.

    Args:
        model: the folder.
        options: `compute_units`, for macOS.

    Raises:
        MissingPackage: coremltools, or off macOS torch, is not installed.
        BundleError: the package cannot be read, or Core ML refuses it.
        SpecError: its input is no image, a shape is free, or (off macOS) an operator is not known.
    """
    if sys.platform == "darwin":
        return _on_macos(model, options)
    return _interpreted(model)


class CoreMlSession:
    """A Core ML model in memory. See `edgekit.spec.Session`."""

    def __init__(
        self,
        predict: Predict,
        image: TensorSpec,
        outputs: tuple[TensorSpec, ...],
        notes: tuple[str, ...],
        examine: Callable[[np.ndarray], tuple[str, ...]] | None = None,
    ) -> None:
        """`examine` looks at the first image, and what it says joins the notes."""
        self.inputs = (image,)
        self.outputs = outputs
        self.notes = notes
        self._predict: Predict | None = predict
        self._examine = examine
        self._image = np.zeros(image.shape, np.uint8)

    def run(self, fill: Fill) -> Mapping[str, np.ndarray]:
        """Fill the input memory, run once, return copies of the outputs by name.

        Raises:
            SpecError: `fill` kept one of the views it was lent, or the session is closed.
            EdgekitError: the runtime failed.
        """
        if self._predict is None:
            raise SpecError("this session is closed; open the bundle again")
        lend_buffers({self.inputs[0].name: self._image}, fill)
        if self._examine is not None:
            examine, self._examine = self._examine, None
            self.notes += examine(self._image)
        return self._predict(self._image)

    def close(self) -> None:
        """Free the model; closing again does nothing."""
        self._predict = self._examine = None


def _interpreted(model: Path) -> CoreMlSession:
    try:
        from targets.coreml.interpreter import SNR_DB, Interpreter, flags
    except ImportError as error:
        raise MissingPackage("torch", "host", "running a Core ML bundle off macOS") from error
    interpreter = Interpreter(model)

    def examine(image: np.ndarray) -> tuple[str, ...]:
        found = flags(interpreter, [image])
        if not interpreter.program.half:
            return ()
        if not found:
            return (
                f"Core ML, float16: every layer within {SNR_DB:.0f} dB of float32, none overflows",
            )
        return tuple(f"Core ML, float16: {flag}" for flag in found)

    notes = (
        "Core ML: there is none on this system; edgekit's interpreter executes the program, "
        "so the numbers are those of the program and the times say nothing of a device",
    )
    program = interpreter.program
    return CoreMlSession(interpreter.run, program.input, program.outputs, notes, examine)


def _on_macos(model: Path, options: SessionOptions) -> CoreMlSession:
    from targets.coreml.description import describe
    from targets.coreml.toolkit import coremltools

    ct = coremltools("running a Core ML bundle")
    _, image, outputs = describe(model)
    units = UNITS[options.compute_units]
    try:
        opened = ct.models.MLModel(str(model), compute_units=ct.ComputeUnit[units])
    except Exception as error:  # Core ML's own errors share no other base
        raise BundleError(f"Core ML refuses the model {model}: {_line(error)}") from error
    notes = (f"Core ML: compute units {units}; Core ML chooses among them for each operator",)
    return CoreMlSession(predictor(opened, image, outputs), image, outputs, notes)


def predictor(opened: Any, image: TensorSpec, outputs: tuple[TensorSpec, ...]) -> Predict:
    """How coremltools' `MLModel` is asked: with an image of Pillow's, which it copies.

    Raises:
        MissingPackage: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingPackage("pillow", "coreml", "running a Core ML bundle") from error

    def predict(pixels: np.ndarray) -> Mapping[str, np.ndarray]:
        try:
            found = opened.predict({image.name: Image.fromarray(pixels[0])})
        except Exception as error:  # Core ML's own errors share no other base
            raise EdgekitError(f"Core ML failed while running: {_line(error)}") from error
        return {s.name: np.array(found[s.name], s.dtype).reshape(s.shape) for s in outputs}

    return predict


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
