"""ONNX Runtime on the device: buffers bound once, execution providers in the order wanted."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import BundleError, EdgekitError, MissingPackage, SpecError
from edgekit.spec import Fill, SessionOptions, TensorSpec
from targets.lending import lend_buffers
from targets.onnx.providers import CPU, Provider, choose, refusal

BATCH = "batch"
"""The name of the first axis where it is free."""
_DTYPES = {"float": "float32", "double": "float64"}


def load(model: Path, options: SessionOptions) -> "OnnxSession":
    """Load an `.onnx` file with static shapes and no external data.

    The file is read, not mapped, so that it may be replaced while the session runs.

    Args:
        model: the file; read once.
        options: `threads` (0: ONNX Runtime's choice), `providers` in the order wanted, and
            TensorRT's settings; a provider that is absent is passed over and `notes` say why.

    Raises:
        MissingPackage: onnxruntime is not installed.
        BundleError: the file cannot be read, or ONNX Runtime refuses it.
        SpecError: an input or output has no fixed shape, or no provider wanted is there.
    """
    # The Linux wheel sends telemetry and writes a device id unless this is set before the import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackage("onnxruntime", "onnx", "running an ONNX bundle") from error
    try:
        content = model.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read the model {model}: {error.strerror}") from error
    chosen, notes = choose(onnxruntime, options, content)
    session, more = _open(onnxruntime, content, options, chosen, model)
    return OnnxSession(session, notes + more)


class OnnxSession:
    """An ONNX model in memory, its inputs and outputs bound once. See `edgekit.spec.Session`."""

    def __init__(self, session: Any, notes: tuple[str, ...]) -> None:
        self.inputs = tuple(_spec(node) for node in session.get_inputs())
        self.outputs = tuple(_spec(node) for node in session.get_outputs())
        self.notes = notes
        self._session: Any = session
        # ONNX Runtime aliases this memory: what fill writes is what the model reads.
        self._buffers = {s.name: np.zeros(s.shape, s.dtype) for s in self.inputs + self.outputs}
        self._binding: Any = session.io_binding()
        for spec in self.inputs:
            self._binding.bind_input(*_bind(spec, self._buffers))
        for spec in self.outputs:
            self._binding.bind_output(*_bind(spec, self._buffers))

    def run(self, fill: Fill) -> Mapping[str, np.ndarray]:
        """Fill the bound input memory, run once, return copies of the outputs by name.

        Raises:
            SpecError: `fill` kept one of the views it was lent, or the session is closed.
            EdgekitError: the runtime failed.
        """
        if self._session is None:
            raise SpecError("this session is closed; open the bundle again")
        lend_buffers({s.name: self._buffers[s.name] for s in self.inputs}, fill)
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # the runtime's own classes share no other base
            raise EdgekitError(f"ONNX Runtime failed while running: {_line(error)}") from error
        # Copied: the caller owns the result, and the next run does not change it.
        return {spec.name: self._buffers[spec.name].copy() for spec in self.outputs}

    def close(self) -> None:
        """Free the model; closing again does nothing."""
        self._binding = None
        self._session = None
        self._buffers = {}


def _open(
    onnxruntime: Any,
    content: bytes,
    options: SessionOptions,
    chosen: tuple[Provider, ...],
    model: Path,
) -> tuple[Any, tuple[str, ...]]:
    """Open with the providers chosen; one that fails is dropped, with a note saying why."""
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 3  # errors only: what else it says is in the notes
    if b"DequantizeLinear" in content and b"QuantizeLinear" not in content:
        # Integer weights alone: without this they are made float anew at each run.
        settings.add_session_config_entry("session.disable_quant_qdq", "1")
    notes: list[str] = []
    while True:
        try:
            session = onnxruntime.InferenceSession(
                content, settings, providers=[p.pair for p in chosen], enable_fallback=0
            )
            break
        except Exception as error:  # the runtime's own classes share no other base
            if len(chosen) < 2 or chosen[0].name == CPU:
                raise BundleError(f"ONNX Runtime refuses the model {model}: {_line(error)}") from (
                    error
                )
            notes.append(f"ONNX Runtime: {chosen[0].name} failed and is left out: {_line(error)}")
            chosen = chosen[1:]
    used = session.get_providers()
    missing = [p.name for p in chosen if p.name not in used]
    notes += [f"ONNX Runtime: {name} did not start: {refusal(name)}" for name in missing]
    first = next((p.name for p in chosen if p.name in used), used[0])
    return session, (*notes, f"ONNX Runtime {onnxruntime.__version__}: runs on {first}")


def _bind(
    spec: TensorSpec, buffers: Mapping[str, np.ndarray]
) -> tuple[str, str, int, Any, tuple[int, ...], int]:
    buffer = buffers[spec.name]
    return spec.name, "cpu", 0, buffer.dtype.type, spec.shape, buffer.ctypes.data


def _spec(node: Any) -> TensorSpec:
    """A batch that is free (`--dynamic batch`) is one image here."""
    shape = [1, *node.shape[1:]] if node.shape[:1] == [BATCH] else node.shape
    if not all(isinstance(size, int) and size > 0 for size in shape):
        raise SpecError(
            f"'{node.name}' has no fixed shape: {node.shape}; build the model with static shapes"
        )
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    return TensorSpec(node.name, tuple(shape), _DTYPES.get(kind, kind))


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
