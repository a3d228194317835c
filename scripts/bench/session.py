"""What a session costs beside the runtime's own call: `Session.run` with an empty fill.

    python -m scripts.bench.session [--calls 20000] [-o build/bench/session]

The model is so small that the difference can be seen: a convolution, a mean, 1,000 logits. The
bare call is each runtime's fastest: LiteRT's `invoke`, ONNX Runtime's `run_with_iobinding` on
buffers bound once, OpenVINO's `infer` on shared memory; it leaves its outputs where they are, while
a session gives copies that are the caller's. Both take turns, call by call, each on a model of its
own that is loaded from the same file with one thread.
"""

import argparse
import datetime
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import bundle as bundles
from edgekit.bundle import Bundle
from edgekit.device.session import open_session
from edgekit.spec import ImageSpec

SIZE = 32
BACKENDS = {"litert": "raspberry-pi", "onnx": "linux", "openvino": "linux"}
"""And the target whose settings the model is built with."""
PACKAGES = {"litert": "ai-edge-litert", "onnx": "onnxruntime", "openvino": "openvino"}
WARM_UP = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """Microseconds a call: medians, of each and of the difference of two that follow each other."""

    backend: str
    raw: float
    session: float
    more: float


def tiny() -> Any:
    """A torch module, (N, 3, 32, 32) -> (N, 1000)."""
    from torch import nn

    conv = nn.Conv2d(3, 8, 3, stride=8)
    return nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1000))


def built(backend: str, out: Path) -> Bundle:
    """The tiny model's bundle for a backend; made the first time."""
    if not (out / backend).exists():
        from edgekit.lower.build import build
        from edgekit.lower.plan import Request

        out.mkdir(parents=True, exist_ok=True)
        request = Request(
            BACKENDS[backend],
            model="scripts.bench.session:tiny",
            image=ImageSpec(SIZE, SIZE),
            backend=backend,
            precision="fp32",
            out=out / backend,
        )
        build(request, lambda line: print(line, file=sys.stderr))
    found = bundles.read(out / backend)
    options = replace(found.manifest.session, threads=1)
    return replace(found, manifest=replace(found.manifest, session=options))


def raw_call(bundle: Bundle) -> Callable[[], Any]:
    """The runtime's own call on the bundle's model, its input in place."""
    model = str(bundle.model)
    if bundle.manifest.backend == "litert":
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model, num_threads=1)
        interpreter.allocate_tensors()
        return interpreter.invoke  # type: ignore[no-any-return]
    arrays = {s.name: np.zeros(s.shape, s.dtype) for s in bundle.manifest.inputs}
    results = {s.name: np.zeros(s.shape, s.dtype) for s in bundle.manifest.outputs}
    if bundle.manifest.backend == "onnx":
        return _onnx(model, arrays, results)
    return _openvino(model, arrays | results)


def _onnx(
    model: str, arrays: Mapping[str, np.ndarray], results: Mapping[str, np.ndarray]
) -> Callable[[], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for bind, values in ((binding.bind_input, arrays), (binding.bind_output, results)):
        for name, a in values.items():
            bind(name, "cpu", 0, a.dtype.type, a.shape, a.ctypes.data)
    kept = (arrays, results)  # the runtime has their addresses, and does not own them

    def call() -> Any:
        assert kept
        return session.run_with_iobinding(binding)

    return call


def _openvino(model: str, arrays: Mapping[str, np.ndarray]) -> Callable[[], Any]:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    for name, array in arrays.items():
        request.set_tensor(name, openvino.Tensor(array, shared_memory=True))

    def call() -> Any:
        assert arrays  # kept, as above
        return request.infer(share_inputs=True, share_outputs=True)

    return call


def measure(backend: str, bundle: Bundle, calls: int) -> Row:
    """Call both, one after the other."""

    def empty(inputs: Mapping[str, np.ndarray]) -> None:
        pass

    raw = raw_call(bundle)
    raws, sessions = [], []
    clock = time.perf_counter_ns
    with closing(open_session(bundle)) as session:
        for _ in range(calls + WARM_UP):
            start = clock()
            raw()
            between = clock()
            session.run(empty)
            raws.append((between - start) / 1e3)
            sessions.append((clock() - between) / 1e3)
    raws, sessions = raws[WARM_UP:], sessions[WARM_UP:]
    more = statistics.median(s - r for r, s in zip(raws, sessions, strict=True))
    return Row(backend, statistics.median(raws), statistics.median(sessions), more)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("-o", "--out", type=Path, default=Path("build/bench/session"))
    given = parser.parse_args()
    print(f"{datetime.date.today()}, {platform.machine()}, one thread, {given.calls} calls each\n")
    print("| runtime | its own call, us | Session.run, us | more, us |\n|---|--:|--:|--:|")
    for backend in BACKENDS:
        row = measure(backend, built(backend, given.out), given.calls)
        name = f"{PACKAGES[backend]} {metadata.version(PACKAGES[backend])}"
        print(f"| {name} | {row.raw:.1f} | {row.session:.1f} | {row.more:.1f} |", flush=True)


if __name__ == "__main__":
    main()
