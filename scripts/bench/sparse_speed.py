"""What zeros among the weights are worth on each runtime: latency, and bytes when compressed.

    python -m scripts.bench.sparse_speed [--weights FILE] [--network mobilenet_v2] [--backend B ...]

Builds the network dense, with 80 % of its weights zero, and with two of four, in float32, each
behind the parity gate, as `edgekit build` does it. Then the sessions take turns in this process, on
one thread: what else the machine does falls on all of them. Prints a table. Three minutes.
"""

import argparse
import copy
import dataclasses
import gzip
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.learn.prune.masks import mask, prunable
from edgekit.learn.prune.rank import largest, n_of_m
from edgekit.lower.build import read_images
from edgekit.lower.gate import parity
from edgekit.lower.load import load_network
from edgekit.lower.network import Network
from edgekit.lower.plan import Request, make_plan
from edgekit.lower.prepare import prepare
from edgekit.lower.prove import lower
from edgekit.spec import Session
from scripts.bench._common import heading

TARGETS = {"litert": "raspberry-pi", "onnx": "linux", "openvino": "linux"}
"""The target whose settings each backend is lowered with."""
ROUNDS, RUNS = 30, 3


@dataclass(frozen=True, slots=True)
class Built:
    """A network on a runtime."""

    weights: str
    backend: str
    stored: int
    """Bytes of the model's file."""
    zipped: int
    """Bytes of it after gzip."""
    session: Session


def variants(network: Network) -> dict[str, Network]:
    """The network, and what pruning makes of it; without training, which moves no zero."""
    found = {"dense": network}
    sparse, grouped = (copy.deepcopy(network.module) for _ in range(2))
    mask(sparse, largest(prunable(sparse), 0.2, True, {}))
    mask(grouped, n_of_m(prunable(grouped), 2, 4)[0])
    for name, module in (("80 % zero", sparse), ("2:4", grouped)):
        found[name] = dataclasses.replace(network, module=module, trained=False)
    return found


def build(
    name: str, network: Network, backends: Sequence[str], out: Path, stack: ExitStack
) -> list[Built]:
    """Lower one network by each backend, and load it; `stack` closes the sessions."""
    images = read_images(None, network.image)
    float_plan = make_plan(Request("raspberry-pi", precision="fp32"))
    prepared = prepare(float_plan, network, images, lambda line: None)
    made = []
    for backend in backends:
        plan = make_plan(Request(TARGETS[backend], backend=backend, precision="fp32"))
        session = dataclasses.replace(plan.session, threads=1)
        folder = out / f"{name} {backend}"
        folder.mkdir(parents=True)
        model = lower(prepared, plan, folder, lambda line: None).artifact.model
        files = [model] if model.is_file() else sorted(p for p in model.rglob("*") if p.is_file())
        content = b"".join(path.read_bytes() for path in files)
        loaded = stack.enter_context(closing(plan.load(model, session)))
        zipped = len(gzip.compress(content, 9))
        made.append(Built(name, backend, len(content), zipped, loaded))
    return made


def timed(built: Sequence[Built], pixels: np.ndarray) -> Mapping[int, list[float]]:
    """Place in `built` -> the best of `RUNS` in each of `ROUNDS` rounds, ms."""
    times: dict[int, list[float]] = {n: [] for n in range(len(built))}
    for turn in range(ROUNDS + 2):
        for n, one in enumerate(built):
            best = min(_run(one.session, pixels) for _ in range(RUNS))
            if turn >= 2:
                times[n].append(best)
    return times


def _run(session: Session, pixels: np.ndarray) -> float:
    start = time.perf_counter_ns()
    parity.run_session(session, [pixels])
    return (time.perf_counter_ns() - start) / 1e6


def table(built: Sequence[Built], times: Mapping[int, list[float]]) -> str:
    """Markdown; the ratio is the median over the rounds of dense / this, of the same round."""
    lines = [
        "| runtime | weights | latency | speed-up (rounds' quartiles) | file | gzip -9 |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for n, one in sorted(enumerate(built), key=lambda item: item[1].backend):
        dense = next(
            i for i, b in enumerate(built) if (b.weights, b.backend) == ("dense", one.backend)
        )
        ratio = np.array(times[dense]) / np.array(times[n])
        low, middle, high = np.percentile(ratio, [25, 50, 75])
        lines.append(
            f"| {one.backend} | {one.weights} | {np.median(times[n]):.2f} ms | "
            f"{middle:.2f} ({low:.2f} to {high:.2f}) | {one.stored / 1e6:.2f} MB | "
            f"{one.zipped / 1e6:.2f} MB |"
        )
    return "\n".join(lines)


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", default="mobilenet_v2")
    parser.add_argument("--weights", default="random", help="a checkpoint; random ones by default")
    parser.add_argument("--backend", choices=TARGETS, action="append")
    given = parser.parse_args()
    network = load_network(given.network, given.weights)
    line = heading(f"{given.network}, weights {Path(given.weights).name}")
    with ExitStack() as stack:
        out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-")))
        built = [
            one
            for name, variant in variants(network).items()
            for one in build(name, variant, given.backend or list(TARGETS), out, stack)
        ]
        pixels = read_images(None, network.image).inputs[0]
        print(line)
        print(table(built, timed(built, pixels)))


if __name__ == "__main__":
    main()
