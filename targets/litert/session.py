"""LiteRT on the device: `Interpreter` with XNNPACK.

`Interpreter`, not `CompiledModel`: it lends the model's own input memory and releases the GIL while
it runs, so a capture thread keeps going. In 2.3.0 the other does neither.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import BundleError, EdgekitError, MissingPackage, SpecError
from edgekit.spec import Fill, SessionOptions, TensorSpec
from targets.lending import lend


def load(model: Path, options: SessionOptions) -> "LiteRtSession":
    """Load a `.tflite` file with static shapes.

    The file is read, not mapped: replacing a mapped file in place kills the process that runs it
    (SIGBUS), and a bundle on a device is replaced while it runs. It costs the file's size in
    private memory; XNNPACK repacks the weights for itself either way.

    Args:
        model: the file; read once.
        options: `threads` (0: one thread, the runtime's own default).

    Raises:
        MissingPackage: ai-edge-litert is not installed.
        BundleError: the file cannot be read, or LiteRT refuses it.
        SpecError: an input or output has no fixed shape.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise MissingPackage("ai-edge-litert", "litert", "running a LiteRT bundle") from error
    try:
        interpreter = Interpreter(
            model_content=model.read_bytes(), num_threads=options.threads or None
        )
        interpreter.allocate_tensors()
    except OSError as error:
        raise BundleError(f"cannot read the model {model}: {error.strerror}") from error
    except (ValueError, RuntimeError) as error:
        raise BundleError(f"LiteRT refuses the model {model}: {_line(error)}") from error
    return LiteRtSession(interpreter)


class LiteRtSession:
    """A LiteRT model in memory. See `edgekit.spec.Session`."""

    def __init__(self, interpreter: Any) -> None:
        inputs, outputs = _details(interpreter)
        self.inputs = tuple(_spec(name, detail) for name, detail in inputs.items())
        self.outputs = tuple(_spec(name, detail) for name, detail in outputs.items())
        self.notes = (delegation(interpreter._get_ops_details(), _indices(outputs)),)
        self._interpreter: Any = interpreter
        self._views = {name: interpreter.tensor(d["index"]) for name, d in inputs.items()}
        self._outputs = {name: d["index"] for name, d in outputs.items()}

    def run(self, fill: Fill) -> Mapping[str, np.ndarray]:
        """Fill the model's own input memory, run once, return copies of the outputs by name.

        Raises:
            SpecError: `fill` kept one of the views it was lent, or the session is closed.
            EdgekitError: the runtime failed.
        """
        if self._interpreter is None:
            raise SpecError("this session is closed; open the bundle again")
        lend({name: view() for name, view in self._views.items()}, fill)
        try:
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise EdgekitError(f"LiteRT failed while running: {_line(error)}") from error
        # get_tensor copies: the caller owns the result, the next run does not change it.
        return {name: self._interpreter.get_tensor(i) for name, i in self._outputs.items()}

    def close(self) -> None:
        """Free the model; closing again does nothing."""
        self._views = {}
        self._interpreter = None


def delegation(ops: Sequence[Mapping[str, Any]], outputs: Sequence[int]) -> str:
    """Say how many operators XNNPACK took, and which it left to the slower built-in kernels.

    LiteRT keeps the operators that a delegate replaced in its list, so the ones that really run
    are found by walking from the outputs to their producers, a delegate's node before others.

    Args:
        ops: `op_name`, `inputs` and `outputs` (tensor indices) of each node.
        outputs: tensor indices of the model's outputs.
    """
    producers: dict[int, Mapping[str, Any]] = {}
    for op in sorted(ops, key=lambda op: bool(op["op_name"] == "DELEGATE")):
        producers.update((int(tensor), op) for tensor in op["outputs"])
    running: dict[int, str] = {}
    waiting = list(outputs)
    while waiting:
        op = producers.get(waiting.pop(), {"op_name": ""})
        if op["op_name"] and op["index"] not in running:
            running[op["index"]] = op["op_name"]
            waiting.extend(int(tensor) for tensor in op["inputs"])
    total = sum(op["op_name"] != "DELEGATE" for op in ops)
    left = sorted(name for name in running.values() if name != "DELEGATE")
    rest = f"; left to slower kernels: {', '.join(left)}" if left else ""
    return f"LiteRT: XNNPACK runs {total - len(left)} of {total} operators{rest}"


def _details(interpreter: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs and outputs by name: the signature's names where there is one, else the tensors'."""
    if len(interpreter.get_signature_list()) == 1:
        runner = interpreter.get_signature_runner()
        return dict(runner.get_input_details()), dict(runner.get_output_details())
    return (
        {detail["name"]: detail for detail in interpreter.get_input_details()},
        {detail["name"]: detail for detail in interpreter.get_output_details()},
    )


def _indices(details: Mapping[str, Any]) -> list[int]:
    return [int(detail["index"]) for detail in details.values()]


def _spec(name: str, detail: Mapping[str, Any]) -> TensorSpec:
    shape = tuple(int(size) for size in detail["shape_signature"])
    if any(size < 1 for size in shape):
        raise SpecError(f"'{name}' has no fixed shape: {shape}; build the model with static shapes")
    return TensorSpec(name, shape, np.dtype(detail["dtype"]).name)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
