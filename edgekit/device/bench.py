"""Latency, throughput and memory of bundles, measured side by side.

    parent:   A: 10 runs   B: 10 runs   B: 10 runs   A: 10 runs   ...
    workers:  one process for each bundle, asleep while another one runs

Each bundle has a process of its own, so that peak memory and threads are its own. They take turns
in small chunks, and every other round in reverse order, so that all of them see the same noise: a
machine that warms up or is busy for a while slows all of them down, not the last one.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from edgekit import errors
from edgekit.errors import EdgekitError

CHUNK = 10
"""Timed runs before another bundle has its turn."""
REST = 0.01
"""Seconds between turns, in which the threads of a runtime stop spinning for more work."""

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from edgekit.device.bench_worker import serve; serve()"
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a worker says once its bundle is loaded."""

    bundle: str
    target: str
    backend: str
    precision: str
    threads: int
    """As asked of the runtime; 0 leaves it to the runtime."""
    model_bytes: int
    load_ms: float
    """Reading and verifying the bundle, importing the runtime, opening the session."""
    notes: tuple[str, ...]
    """The delegate or provider that runs, and why others do not."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One bundle's result. A run writes the input, runs the model and copies the outputs."""

    loaded: Loaded
    runs: int
    warmup: int
    mean_ms: float
    min_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    per_second: float
    """Runs per second, one after the other."""
    peak_memory_mb: float
    """Largest resident memory of the process, MB of 10^6 bytes; Python and NumPy included."""
    base_memory_mb: float
    """The same before the runtime was imported and the model loaded."""


def measure(
    bundles: Sequence[Path], runs: int = 200, warmup: int = 20, threads: int | None = None
) -> tuple[Measurement, ...]:
    """Measure `bundles` in turns; one result each, in their order.

    Args:
        bundles: bundle folders; each is verified before it is loaded.
        runs: timed runs of each bundle.
        warmup: runs of each bundle before the first timed one.
        threads: intra-op threads; None takes what the bundle says.

    Raises:
        EdgekitError: a bundle cannot be read or run; as `edgekit.bundle.read` and
            `edgekit.device.session.open_session` raise it.
    """
    with ExitStack() as stack:
        workers = [stack.enter_context(_Worker(path, threads)) for path in bundles]
        # One after the other, so that no load is measured beside another.
        loaded = [worker.load() for worker in workers]
        for worker in workers:
            worker.run(0, warmup)
        times: list[list[float]] = [[] for _ in workers]
        for turn, count in enumerate(_chunks(runs)):
            order = range(len(workers)) if turn % 2 == 0 else reversed(range(len(workers)))
            for index in order:
                time.sleep(REST)
                # One run that does not count: the caches hold the other bundle's weights.
                times[index] += workers[index].run(count, warmup=1)
        peaks = [worker.peak_mb for worker in workers]
        bases = [worker.base_mb for worker in workers]
    return tuple(_summary(*each, warmup) for each in zip(loaded, times, peaks, bases, strict=True))


def _chunks(runs: int) -> list[int]:
    full, rest = divmod(runs, CHUNK)
    return [CHUNK] * full + ([rest] if rest else [])


def _summary(
    loaded: Loaded, times: list[float], peak_mb: float, base_mb: float, warmup: int
) -> Measurement:
    p50, p95, p99 = np.percentile(times, (50, 95, 99)).tolist()
    return Measurement(
        loaded=loaded,
        runs=len(times),
        warmup=warmup,
        mean_ms=float(np.mean(times)),
        min_ms=min(times),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        per_second=1000 * len(times) / sum(times),
        peak_memory_mb=peak_mb,
        base_memory_mb=base_mb,
    )


class _Worker:
    """A process that holds one bundle; ends with the block, or when this process does."""

    def __init__(self, path: Path, threads: int | None):
        self.path = path
        self.threads = threads
        self.peak_mb = self.base_mb = 0.0

    def __enter__(self) -> "_Worker":
        # A session of its own: Ctrl-C is for us, who then end the workers.
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def load(self) -> Loaded:
        answer = self._ask({"load": str(self.path), "threads": self.threads})
        self.base_mb = answer.pop("base_mb")
        return Loaded(**{**answer, "notes": tuple(answer["notes"])})

    def run(self, count: int, warmup: int) -> list[float]:
        """Times of `count` runs, ms, after `warmup` that do not count."""
        answer = self._ask({"run": count, "warmup": warmup})
        self.peak_mb = answer["peak_mb"]
        times: list[float] = answer["ms"]
        return times

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Send one line, wait for one line."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise EdgekitError(
                f"the process that ran {self.path} died (exit code {self.process.wait()}); "
                "out of memory, or a fault of the runtime: see its messages above"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            kind = getattr(errors, answer["error"], EdgekitError)
            raise kind.__new__(kind, answer["message"])  # its __init__ may want other arguments
        return answer
