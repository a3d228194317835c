"""A bare `.tflite` file as a teacher: pixels to its numbers, its numbers to logits."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import CheckpointError, MissingPackage, SpecError


@dataclass(frozen=True, slots=True)
class Entry:
    """What a file takes."""

    dtype: np.dtype
    size: tuple[int, int]
    """(height, width)"""
    planes: bool
    """(1, 3, H, W) instead of (1, H, W, 3)."""
    scale: float
    """real = scale * (integer - zero_point); 0 for float."""
    zero_point: int


class TfliteModel:
    """A classifier in a `.tflite` file; one thread at a time runs it.

    A file that ends in a softmax is read before it: in integers, probabilities are coarse (all of
    one in 256 steps), the logits are not.
    """

    def __init__(self, path: Path, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Load the file; it is read, not mapped.

        Args:
            path: with one input, (1, H, W, 3) or (1, 3, H, W), and one output, (1, classes).
            mean: with `std`, how pixels become real numbers: (x / 255 - mean) / std. Empty:
                integers are the pixels themselves, which is what a camera's model takes.
            std: see `mean`.

        Raises:
            MissingPackage: ai-edge-litert is not installed.
            CheckpointError: the file cannot be read, or LiteRT refuses it.
            SpecError: its input or output is not as above; it takes floats, and nothing says how
                pixels become them.
        """
        self._interpreter = _open(path)
        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        shape = tuple(map(int, outputs[0]["shape"]))
        if len(inputs) != 1 or len(outputs) != 1 or len(shape) != 2:
            raise SpecError(
                f"{path} has {len(inputs)} inputs and {len(outputs)} outputs, the first output "
                f"{shape}; a teacher has one image as its input and one output, (1, classes)"
            )
        self.entry = _entry(inputs[0], path)
        self.outputs = shape[1]
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]
        self._prepared = _preparation(self.entry, mean, std, path)
        self._scale, self._zero_point = outputs[0]["quantization"]

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """(n, *size, 3) uint8 RGB -> (n, outputs) float32."""
        answers = np.empty((len(pixels), self.outputs), np.float32)
        for image, answer in zip(pixels, answers, strict=True):
            self._interpreter.set_tensor(self._input, self._prepared(image[np.newaxis]))
            self._interpreter.invoke()
            answer[:] = self._interpreter.get_tensor(self._output)[0]
        if self._scale:
            answers = self._scale * (answers - self._zero_point)
        return answers.astype(np.float32)

    def close(self) -> None:
        """Free the model."""
        self._interpreter = None


def _open(path: Path) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise MissingPackage("ai-edge-litert", "litert", "a .tflite teacher") from error
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read the teacher {path}: {error.strerror}") from error
    try:
        interpreter = Interpreter(model_content=content, num_threads=1)
        if (logits := _before_softmax(interpreter)) is not None:
            interpreter = Interpreter(model_content=_ending_in(content, logits), num_threads=1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())
        raise CheckpointError(f"LiteRT refuses the teacher {path}: {said}") from error
    return interpreter


def _before_softmax(interpreter: Any) -> int | None:
    """The tensor that the last softmax takes, where that gives the file's output."""
    output = interpreter.get_output_details()[0]["index"]
    for op in interpreter._get_ops_details():
        if op["op_name"] == "SOFTMAX" and output in op["outputs"]:
            return int(op["inputs"][0])
    return None


def _ending_in(content: bytes, tensor: int) -> bytes:
    """The file with another output: one number in it changes."""
    from ai_edge_litert import schema_py_generated as schema

    changed = bytearray(content)
    model = schema.Model.GetRootAs(changed, 0)
    model.Subgraphs(0).OutputsAsNumpy()[0] = tensor  # a view of `changed`
    return bytes(changed)


def _entry(detail: Any, path: Path) -> Entry:
    shape, dtype = tuple(int(side) for side in detail["shape"]), np.dtype(detail["dtype"])
    planes = len(shape) == 4 and shape[1] == 3 != shape[3]
    if len(shape) != 4 or 3 not in (shape[1], shape[3]) or dtype.name not in _KINDS:
        raise SpecError(
            f"{path} takes {shape} {dtype}; a teacher takes an image, (1, H, W, 3) or "
            f"(1, 3, H, W), {', '.join(_KINDS)}"
        )
    height, width = shape[2:] if planes else shape[1:3]
    return Entry(dtype, (height, width), planes, *detail["quantization"])


_KINDS = ("uint8", "int8", "float32")


def _preparation(
    entry: Entry, mean: tuple[float, ...], std: tuple[float, ...], path: Path
) -> Callable[[np.ndarray], np.ndarray]:
    """(1, H, W, 3) uint8 RGB -> the file's input."""
    least = 0 if entry.dtype == np.uint8 else -128
    if not mean and entry.dtype == np.float32:
        raise SpecError(
            f"{path} takes floats, and does not say how pixels become them; add 'mean' and 'std' "
            "to the teacher, as in mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5] for -1 to 1"
        )

    def prepared(pixels: np.ndarray) -> np.ndarray:
        if mean:
            real = (pixels / 255 - np.array(mean)) / np.array(std)
            if entry.scale:
                levels = np.rint(real / entry.scale) + entry.zero_point
                real = np.clip(levels, least, least + 255)
        else:
            real = pixels.astype(np.int16) + least
        return np.ascontiguousarray(
            (real.transpose(0, 3, 1, 2) if entry.planes else real).astype(entry.dtype)
        )

    return prepared
