"""From a process's start to its first answer: edgekit beside the bare runtime, in turns.

    python -m scripts.bench.cold_start BUNDLE... [--photograph FILE] [--rounds 20] [--core 1]

edgekit verifies every byte of the bundle, opens a session and answers one image; the bare runtime
(LiteRT or ONNX Runtime, as the bundle) opens the same model file and answers the same image with
numpy. Once the image is pixels at the model's size, of the bundle's own golden input; and once a
photograph, which both read and resize with OpenCV. One core, one thread, files in the page cache,
modules compiled, as pip leaves an installed package.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

Run: TypeAlias = Mapping[str, float]
FOLDER = Path(__file__).parent / "cold"
COMPILED = Path("build/bench/compiled")
KEYS = ("wall_ms", "cpu_ms", "peak_mb")


def start(command: Sequence[str], core: int) -> tuple[Run, str]:
    """Run one process; its figures and its answer."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "."}
    environment |= {"PYTHONPYCACHEPREFIX": str(COMPILED.resolve()), "PYTHONDONTWRITEBYTECODE": ""}
    begun = time.monotonic_ns()  # one clock for all processes
    text = subprocess.run(
        ["taskset", "-c", str(core), sys.executable, *command],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ).stdout
    found = json.loads(text.splitlines()[-1])
    wall = (found["ended_ns"] - begun) / 1e6
    return {"wall_ms": wall, "cpu_ms": found["cpu_ms"], "peak_mb": found["peak_mb"]}, found["label"]


def commands(bundle: Path, image: Path) -> dict[str, list[str]]:
    """Of the two that are compared."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    model, labels = bundle / manifest["model"], bundle / manifest["labels"]
    return {
        "bare": [str(FOLDER / "bare.py"), str(model), str(labels), str(image)],
        "edgekit": [str(FOLDER / "edgekit_.py"), str(bundle), str(image)],
    }


def measure(both: Mapping[str, Sequence[str]], rounds: int, core: int) -> dict[str, list[Run]]:
    """In turns, after one run of each that reads the files into the page cache."""
    answers = {name: start(command, core)[1] for name, command in both.items()}
    if len(set(answers.values())) > 1:
        raise SystemExit(f"error: they do not answer alike: {answers}")
    runs: dict[str, list[Run]] = {name: [] for name in both}
    for _ in range(rounds):
        for name, command in both.items():
            runs[name].append(start(command, core)[0])
    return runs


def rows(title: str, runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """Markdown: medians, and the median of the ratios of two runs that followed each other."""
    lines = []
    for name, found in runs.items():
        cells = [f"{statistics.median(run[key] for run in found):.0f}" for key in KEYS]
        for key in KEYS:
            pairs = zip(found, runs["bare"], strict=True)
            cells.append(f"{statistics.median(run[key] / bare[key] for run, bare in pairs):.2f}")
        lines.append(f"| {title} | {name} | {' | '.join(cells)} |")
    return lines


def golden(bundle: Path) -> Path:
    """The first golden input: pixels at the model's size."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    return bundle / str(manifest["golden"][0]["input"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE")
    parser.add_argument("--photograph", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--core", type=int, default=1)
    given = parser.parse_args()
    print(
        f"{datetime.date.today()}, {platform.machine()}, Python {platform.python_version()}, "
        f"core {given.core} alone, {given.rounds} rounds in turns\n"
    )
    print(
        "| image | who | wall, ms | CPU, ms | peak, MB | wall / bare | CPU / bare | peak / bare |"
    )
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for bundle in given.bundles:
        images = {"pixels": golden(bundle)}
        if given.photograph:
            images["photograph"] = given.photograph
        for kind, image in images.items():
            title = f"{json.loads((bundle / 'manifest.json').read_text())['backend']}, {kind}"
            runs = measure(commands(bundle, image), given.rounds, given.core)
            print("\n".join(rows(title, runs)), flush=True)


if __name__ == "__main__":
    main()
