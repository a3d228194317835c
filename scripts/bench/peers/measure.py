"""Time a loop: what every peer's file, and ours, does with its answers.

A peer's file is one generator, `loop(clip, model)`, that yields the class of each frame (an index),
written as its own documentation writes the loop; here `next` of it is timed. Standard library
alone, because it runs in each peer's environment.
"""

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

WARM_UP = 20
"""Frames before the first that counts: lazy loading, first allocations, a pipeline's queues."""


def main(loop: Callable[[str, str], Iterator[int]], *packages: str) -> None:
    """Run `loop` on the command line's CLIP and MODEL, and print one JSON line.

    The clip must have WARM_UP frames more than FRAMES. The process ends at once afterwards: some
    peers leave threads behind that would go on with the clip.

    Args:
        loop: (clip, model) -> the class of each frame.
        packages: whose versions are stated.
    """
    if len(sys.argv) != 4:
        raise SystemExit(f"usage: {Path(sys.argv[0]).name} CLIP MODEL FRAMES")
    clip, model, frames = sys.argv[1], sys.argv[2], int(sys.argv[3])
    answers = loop(clip, model)
    for _ in range(WARM_UP):
        next(answers)
    found = measured(answers, frames)
    found["versions"] = {name: metadata.version(name) for name in packages}
    print(json.dumps(found), flush=True)
    os._exit(0)


def measured(answers: Iterator[int], frames: int) -> dict[str, object]:
    """Take `frames` answers: milliseconds, page faults, memory, and the answers themselves."""
    walls: list[float] = []
    classes: list[int] = []
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    cpu = time.process_time()
    for _ in range(frames):
        start = time.perf_counter_ns()
        classes.append(int(next(answers)))
        walls.append((time.perf_counter_ns() - start) / 1e6)
    cpu = time.process_time() - cpu
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "frames": frames,
        "median_ms": round(statistics.median(walls), 3),
        "mean_ms": round(statistics.fmean(walls), 3),
        "cpu_ms": round(cpu * 1e3 / frames, 3),
        "page_faults": round((usage.ru_minflt - faults) / frames, 1),
        "peak_mb": round(usage.ru_maxrss / 1024),  # kB on Linux
        "classes": classes,
    }
