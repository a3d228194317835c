"""OpenVINO on the device: one request, its inputs and outputs bound once.

It releases the GIL while it runs, so a capture thread keeps going.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import BundleError, EdgekitError, SpecError
from edgekit.spec import Fill, SessionOptions, TensorSpec
from targets.lending import lend_buffers
from targets.openvino.runtime import api, line

UNSEEN = ("Const", "Input", "Output")
"""What OpenVINO lists beside the operators that it runs."""


def load(model: Path, options: SessionOptions) -> "OpenVinoSession":
    """Load an `.onnx` file with static shapes, for the CPU.

    The file is read, not mapped, so that it may be replaced while the session runs.

    Args:
        model: the file; read once.
        options: `threads` (0: one for each core).

    Raises:
        MissingPackage: openvino is not installed.
        BundleError: the file cannot be read, or OpenVINO refuses it.
        SpecError: an input or output has no fixed shape.
    """
    runtime = api("running an OpenVINO bundle")
    try:
        content = model.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read the model {model}: {error.strerror}") from error
    core = runtime.Core()
    try:
        graph = core.read_model(content)
        inputs = tuple(_spec(port) for port in graph.inputs)
        outputs = tuple(_spec(port) for port in graph.outputs)
        compiled = core.compile_model(graph, "CPU", _settings(core, graph, options))
    except RuntimeError as error:
        raise BundleError(f"OpenVINO refuses the model {model}: {line(error)}") from error
    version, device = runtime.__version__, core.get_property("CPU", "FULL_DEVICE_NAME")
    note = account(version.partition("-")[0], device, _ran(compiled))
    request = compiled.create_infer_request()
    return OpenVinoSession(runtime.Tensor, request, inputs, outputs, (note,))


class OpenVinoSession:
    """A compiled model and one request. See `edgekit.spec.Session`."""

    def __init__(
        self,
        tensor: Any,
        request: Any,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        notes: tuple[str, ...],
    ) -> None:
        self.inputs, self.outputs, self.notes = inputs, outputs, notes
        self._request: Any = request
        # OpenVINO aliases this memory: what fill writes is what the model reads.
        self._buffers = {s.name: np.zeros(s.shape, s.dtype) for s in inputs + outputs}
        for name, buffer in self._buffers.items():
            request.set_tensor(name, tensor(buffer, shared_memory=True))

    def run(self, fill: Fill) -> Mapping[str, np.ndarray]:
        """Fill the bound input memory, run once, return copies of the outputs by name.

        Raises:
            SpecError: `fill` kept one of the views it was lent, or the session is closed.
            EdgekitError: the runtime failed.
        """
        if self._request is None:
            raise SpecError("this session is closed; open the bundle again")
        lend_buffers({s.name: self._buffers[s.name] for s in self.inputs}, fill)
        try:
            self._request.infer(share_outputs=True)
        except RuntimeError as error:
            raise EdgekitError(f"OpenVINO failed while running: {line(error)}") from error
        # Copied: the caller owns the result, and the next run does not change it.
        return {spec.name: self._buffers[spec.name].copy() for spec in self.outputs}

    def close(self) -> None:
        """Free the model; closing again does nothing."""
        self._request = None
        self._buffers = {}


def account(version: str, device: str, ran: Counter[tuple[str, str]]) -> str:
    """Say where the model runs, and at which precision each kind of operator really does.

    Args:
        version: OpenVINO's.
        device: the processor's name.
        ran: how often each (precision, kind of operator) stands in the compiled model.
    """
    lists = []
    for precision in sorted({precision for precision, _ in ran}):
        kinds = sorted((kind, n) for (found, kind), n in ran.items() if found == precision)
        lists.append(f"in {precision}: " + ", ".join(f"{kind} {n}" for kind, n in kinds))
    return f"OpenVINO {version}: runs on {device}; " + "; ".join(lists)


def _settings(core: Any, graph: Any, options: SessionOptions) -> dict[str, Any]:
    """One request at a time, and the precision that the file was built for.

    Left to itself, OpenVINO computes a float32 model in bfloat16 or float16 wherever the processor
    can; only a file whose weights are float16 may be.
    """
    halves = any(node.get_element_type().get_type_name() == "f16" for node in _constants(graph))
    able = "FP16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_PRECISION_HINT": "f16" if halves and able else "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",  # else int8 weights make activations int8, too
        "ENABLE_CPU_PINNING": False,  # the capture thread, and other models, want the cores too
    }
    if options.threads:
        settings["INFERENCE_NUM_THREADS"] = options.threads
    return settings


def _constants(graph: Any) -> list[Any]:
    return [node for node in graph.get_ops() if node.get_type_name() == "Constant"]


def _ran(compiled: Any) -> Counter[tuple[str, str]]:
    """How often each (precision, kind) runs; what is computed once, from constants, is left out."""
    found: Counter[tuple[str, str]] = Counter()
    for node in compiled.get_runtime_model().get_ordered_ops():
        sources = [port.get_source_output().get_node() for port in node.inputs()]
        if _info(node, "layerType") not in UNSEEN and not all(
            _info(source, "layerType") == "Const" for source in sources
        ):
            found[_info(node, "runtimePrecision"), _info(node, "layerType")] += 1
    return found


def _info(node: Any, key: str) -> str:
    return str(node.get_rt_info()[key].value)


def _spec(port: Any) -> TensorSpec:
    name = port.get_any_name()
    if port.partial_shape.is_dynamic:
        raise SpecError(
            f"'{name}' has no fixed shape: {port.partial_shape}; build the model with static shapes"
        )
    return TensorSpec(name, tuple(port.shape), np.dtype(port.element_type.to_dtype()).name)
