"""The process that `worker` starts for a bundle: JSON lines in, JSON lines out."""

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import bundle
from edgekit.device.child import as_news
from edgekit.device.describe import model_bytes
from edgekit.device.golden import run_image
from edgekit.device.image import read_image
from edgekit.device.session import open_session
from edgekit.errors import BundleError, EdgekitError
from edgekit.spec import Session


def serve() -> None:
    """Answer questions from stdin until it closes; the first one must be `load`.

    A mistake of the user's is answered as `{"error": class, "message": text}`.
    """
    # What a runtime prints on stdout goes to stderr; the answers have the old stdout to themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    runner: _Runner | None = None
    for line in sys.stdin:
        question = json.loads(line)
        try:
            if runner is None:
                runner = _Runner(Path(question["load"]), question["threads"])
                answer = runner.loaded
            elif "image" in question:
                answer = runner.answer(Path(question["image"]))
            else:
                answer = runner.run(question["run"], question["warmup"])
        except EdgekitError as error:
            answer = dict(as_news(error))
        print(json.dumps(answer), file=answers, flush=True)


class _Runner:
    """One loaded bundle and the input it is measured with."""

    def __init__(self, path: Path, threads: int | None):
        base_mb = peak_memory_mb()
        start = time.perf_counter()
        found = bundle.read(path)
        manifest = found.manifest
        if threads is not None:
            options = replace(manifest.session, threads=threads)
            found = replace(found, manifest=replace(manifest, session=options))
        self.session: Session = open_session(found)
        load_ms = 1000 * (time.perf_counter() - start)
        self.input = _input(found)
        self.image = manifest.image
        self.loaded: dict[str, Any] = {
            "bundle": str(path),
            "target": manifest.target,
            "backend": manifest.backend,
            "precision": manifest.precision,
            "threads": found.manifest.session.threads,
            "model_bytes": model_bytes(found),
            "load_ms": load_ms,
            "notes": list(self.session.notes),
            "base_mb": base_mb,
        }

    def run(self, count: int, warmup: int) -> dict[str, Any]:
        for _ in range(warmup):
            self.session.run(self._fill)
        times = []
        for _ in range(count):
            start = time.perf_counter_ns()
            self.session.run(self._fill)
            times.append((time.perf_counter_ns() - start) / 1e6)
        return {"ms": times, "peak_mb": peak_memory_mb()}

    def answer(self, path: Path) -> dict[str, Any]:
        (found,) = run_image(self.session, read_image(path), self.image).values()
        return {"logits": found[0].tolist()}

    def _fill(self, inputs: Mapping[str, np.ndarray]) -> None:
        (view,) = inputs.values()
        np.copyto(view, self.input)


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, MB of 10^6 bytes."""
    try:
        # Not ru_maxrss, where Linux counts what the parent had when it forked this process.
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    except (OSError, IndexError):  # not Linux
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _input(found: bundle.Bundle) -> np.ndarray:
    """The first golden input; without one, noise. Some kernels are faster on zeros."""
    spec = found.manifest.inputs[0]
    if not found.manifest.golden:
        return np.random.default_rng(0).integers(0, 256, spec.shape, np.uint8)
    path = found.path / found.manifest.golden[0].input
    try:
        tensor: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BundleError(f"cannot read the golden array {path}: {error}") from error
    if tensor.shape != spec.shape or tensor.dtype != spec.dtype:
        raise BundleError(f"{path} is {tensor.dtype} {tensor.shape}, not {spec.dtype} {spec.shape}")
    return tensor
