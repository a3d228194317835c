"""Inference time of bundles beside another `.tflite`, in turn, in one process.

    python scripts/bench/inference.py BUNDLE... [--peer FILE.tflite] [--threads 1]

Every model runs through the same session code on the same noise. They take turns, a few runs each,
so that what the machine does meanwhile meets all of them; the table's ratio is of the medians, to
the peer where there is one, else to the first bundle.
"""

import argparse
import dataclasses
import datetime
import platform
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgekit import bundle as bundles
from edgekit import plugins
from edgekit.spec import Session, SessionOptions

WARM_UP = 10


def open_all(paths: list[Path], peer: Path | None, threads: int) -> dict[str, Session]:
    """Sessions by the name that the table shows; the peer first."""
    sessions: dict[str, Session] = {}
    if peer is not None:
        sessions[peer.name] = plugins.loader("litert")(peer, SessionOptions(threads=threads))
    for path in paths:
        opened = bundles.read(path)
        manifest = opened.manifest
        options = dataclasses.replace(manifest.session, threads=threads)
        name = f"{manifest.name} {manifest.backend} {manifest.precision}"
        if name in sessions:
            name = f"{name} ({path.name})"
        model = opened.path / manifest.model
        sessions[name] = plugins.loader(manifest.backend)(model, options)
    return sessions


def noise(session: Session) -> dict[str, np.ndarray]:
    """Inputs of the shapes and types that the session takes; the same at each run."""
    generator = np.random.default_rng(0)
    return {
        spec.name: generator.integers(0, 256, spec.shape, np.uint8).astype(spec.dtype)
        for spec in session.inputs
    }


def time_runs(session: Session, inputs: Mapping[str, np.ndarray], runs: int) -> list[float]:
    """Milliseconds of each run: the copy into the input memory, the model, the outputs' copies."""

    def fill(memory: Mapping[str, np.ndarray]) -> None:
        for name, value in inputs.items():
            memory[name][...] = value

    times = []
    for _ in range(runs):
        start = time.perf_counter_ns()
        session.run(fill)
        times.append((time.perf_counter_ns() - start) / 1e6)
    return times


def table(times: Mapping[str, list[float]], threads: int) -> str:
    """Markdown, with what is needed to read it."""
    base = float(np.median(next(iter(times.values()))))
    runs = len(next(iter(times.values())))
    lines = [
        f"{datetime.date.today()}, {platform.machine()}, {threads} thread(s), {runs} runs each, "
        "in turn",
        "",
        "| model | p50 ms | p95 ms | ratio |",
        "|---|---|---|---|",
    ]
    for name, measured in times.items():
        p50, p95 = np.percentile(measured, (50, 95))
        lines.append(f"| {name} | {p50:.2f} | {p95:.2f} | {p50 / base:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE")
    parser.add_argument("--peer", type=Path, metavar="FILE.tflite")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--runs", type=int, default=10, help="in a round, for each model")
    given = parser.parse_args()
    sessions = open_all(given.bundles, given.peer, given.threads)
    inputs = {name: noise(session) for name, session in sessions.items()}
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for name, session in sessions.items():
        time_runs(session, inputs[name], WARM_UP)
    for _ in range(given.rounds):
        for name, session in sessions.items():
            times[name] += time_runs(session, inputs[name], given.runs)
    print(table(times, given.threads))
    for session in sessions.values():
        session.close()


if __name__ == "__main__":
    main()
