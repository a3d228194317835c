"""The loop beside everyone else's: a clip's frames to classes, one process a loop, in turns.

    python -m scripts.bench.loop_peers CLIP [--rounds 5] [--frames 300] [--only NAME ...]

CLIP: `python -m scripts.bench.peers.clip` makes one of 1280x720; models are made by
`scripts.bench.peers.models`, the peers' environments by `scripts.bench.peers.environments`. Every
loop decodes the clip itself, as its users' do, on one core with one thread. In each round every
loop runs once, in another order. A time is the whole run's by the number of frames (a loop that
reads ahead in a thread answers in bursts), the median over the rounds; a ratio is the median of
(theirs / ours in that round), of wall time and, in parentheses, of CPU time, which a busy machine
changes less. A peer that cannot run is named with the reason.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from scripts.bench.peers import environments
from scripts.bench.peers.listing import OURS, OURS_INT8, PEERS, Peer

Run: TypeAlias = Mapping[str, Any]
HOME = Path("build/peers/home")
"""Where peers that write settings write them."""
ENVIRONMENT = {
    **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")},
    "HF_HUB_OFFLINE": "1",
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "ORT_DISABLE_TELEMETRY": "1",
    "TELEMETRY_OPT_OUT": "True",
}
"""One thread each, and nobody reaches for the network."""
LIMIT_S = 300


class Missing(Exception):
    """A peer cannot run here; says why."""


def run(peer: Peer, clip: Path, models: Path, frames: int, core: int) -> Run:
    """One process of one loop.

    Raises:
        Missing: it has no environment or model, or failed.
    """
    python = environments.python(peer.environment) if peer.environment else Path(sys.executable)
    if peer.environment and not environments.ready(peer.environment):
        raise Missing(f"no environment: python -m {environments.__name__} {peer.environment}")
    if not (models / peer.model).exists():
        raise Missing("no model: python -m scripts.bench.peers.models DATA")
    HOME.mkdir(parents=True, exist_ok=True)
    command = ["taskset", "-c", str(core), str(python), "-W", "ignore", "-m"]
    command += [f"scripts.bench.peers.{peer.module}", str(clip), str(models / peer.model)]
    settings = {**os.environ, **ENVIRONMENT, "HOME": str(HOME.resolve())}
    try:
        done = subprocess.run(
            [*command, str(frames)], capture_output=True, text=True, env=settings, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired as error:
        raise Missing(f"took longer than {LIMIT_S} s") from error
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"frames"')]
    if not lines:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"exit {done.returncode}"]
        raise Missing(f"failed: {last[0]}")
    found: Run = json.loads(lines[0])
    return found


def measure(
    peers: Sequence[Peer], clip: Path, models: Path, rounds: int, frames: int, core: int
) -> tuple[dict[Peer, list[Run]], dict[Peer, str]]:
    """Every loop in turns; what each gave, and why some gave nothing."""
    runs: dict[Peer, list[Run]] = {}
    missing: dict[Peer, str] = {}
    for turn in range(rounds):
        first = turn % len(peers)
        for peer in (*peers[first:], *peers[:first]):
            if peer in missing:
                continue
            try:
                found = run(peer, clip, models, frames, core)
            except Missing as error:
                missing[peer] = str(error)
                continue
            runs.setdefault(peer, []).append(found)
            ms = found["mean_ms"]
            print(f"round {turn + 1}: {peer.name}: {ms:.2f} ms", file=sys.stderr, flush=True)
    return {peer: runs[peer] for peer in peers if peer in runs and peer not in missing}, missing


def median(runs: Sequence[Run], key: str) -> float:
    """Over the rounds."""
    return statistics.median(float(found[key]) for found in runs)


def ratio(runs: Sequence[Run], ours: Sequence[Run]) -> str:
    """How many times as long as ours a frame takes, wall and (CPU): medians over the rounds."""

    def of(key: str) -> float:
        pairs = zip(runs, ours, strict=True)
        return float(statistics.median(their[key] / our[key] for their, our in pairs))

    return f"{of('mean_ms'):.2f} ({of('cpu_ms'):.2f})"


def agreement(peer: Peer, run: Run, ours: Run) -> float:
    """Share of frames with the class that our fp32 loop answered, in [0, 1]."""
    pairs = zip(run["classes"], ours["classes"], strict=True)
    return statistics.fmean(theirs - peer.first_class == our for theirs, our in pairs)


def table(runs: Mapping[Peer, Sequence[Run]]) -> str:
    """Markdown, a row each, the fastest first."""
    lines = [
        "| loop | model | ms a frame | / ours, fp32 | / ours, int8 | CPU, ms a frame "
        "| page faults a frame | peak, MB | same answers | versions |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for peer, found in sorted(runs.items(), key=lambda pair: median(pair[1], "mean_ms")):
        versions = ", ".join(f"{name} {v}" for name, v in found[0]["versions"].items())
        fp32, same = "", ""
        if OURS in runs:
            same = f"{agreement(peer, found[0], runs[OURS][0]):.0%}"
            if peer.precision == OURS.precision:
                fp32 = ratio(found, runs[OURS])
        int8 = ratio(found, runs[OURS_INT8]) if OURS_INT8 in runs else ""
        ms = median(found, "mean_ms")
        lines.append(
            f"| {peer.name} | {peer.precision} | {ms:.2f} | {fp32} | {int8} "
            f"| {median(found, 'cpu_ms'):.2f} | {median(found, 'page_faults'):.1f} "
            f"| {median(found, 'peak_mb'):.0f} | {same} | {versions} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--models", type=Path, default=Path("build/peers/models"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--core", type=int, default=1)
    parser.add_argument("--only", action="append", metavar="MODULE", help="beside ours; repeat")
    given = parser.parse_args()
    chosen = [peer for peer in PEERS if not given.only or peer.module in ("ours", *given.only)]
    load = os.getloadavg()[0]
    runs, missing = measure(
        chosen, given.clip, given.models, given.rounds, given.frames, given.core
    )
    print(
        f"{datetime.date.today()}, {platform.machine()}, Python {platform.python_version()}, core "
        f"{given.core} alone, one thread, {given.frames} frames, {given.rounds} rounds in turns, "
        f"load before {load:.1f}\n"
    )
    print(table(runs))
    if missing:
        print("\nNot measured:\n")
        for peer, reason in missing.items():
            print(f"- {peer.name}: {reason}")


if __name__ == "__main__":
    main()
