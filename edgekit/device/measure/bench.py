"""Latency, throughput and memory of bundles, measured side by side.

    parent:   A: 10 runs   B: 10 runs   B: 10 runs   A: 10 runs   ...
    workers:  one process for each bundle, asleep while another one runs

Each bundle has a process of its own, so that peak memory and threads are its own. They take turns
in small chunks, and every other round in reverse order, so that all of them see the same noise: a
machine that warms up or is busy for a while slows all of them down, not the last one.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.device.measure.worker import Loaded, Worker

CHUNK = 10
"""Timed runs before another bundle has its turn."""
REST = 0.01
"""Seconds between turns, in which the threads of a runtime stop spinning for more work."""


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
        workers = [stack.enter_context(Worker(path, threads)) for path in bundles]
        # One after the other, so that no load is measured beside another.
        loaded = [worker.load() for worker in workers]
        return time_in_turns(workers, loaded, runs, warmup)


def time_in_turns(
    workers: Sequence[Worker], loaded: Sequence[Loaded], runs: int, warmup: int
) -> tuple[Measurement, ...]:
    """Time workers that are loaded; one result each, in their order."""
    times = in_turns([worker.run for worker in workers], runs, warmup)
    return tuple(
        _summary(said, found, worker.peak_mb, worker.base_mb, warmup)
        for said, found, worker in zip(loaded, times, workers, strict=True)
    )


def in_turns(
    timed: Sequence[Callable[[int, int], list[float]]], runs: int, warmup: int
) -> list[list[float]]:
    """Times of `runs` runs of each, ms, in small chunks that take turns.

    Each of `timed` takes how many runs count, and how many before them do not.
    """
    for run in timed:
        run(0, warmup)
    times: list[list[float]] = [[] for _ in timed]
    for turn, count in enumerate(_chunks(runs)):
        order = range(len(timed)) if turn % 2 == 0 else reversed(range(len(timed)))
        for index in order:
            time.sleep(REST)
            # One run that does not count: the caches hold the other one's weights.
            times[index] += timed[index](count, 1)
    return times


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
