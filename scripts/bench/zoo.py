"""What every architecture of the zoo costs on this machine: one table, `docs/zoo.md`.

    python scripts/bench/zoo.py build    # two hours on two slow cores; goes on where it stopped
    python scripts/bench/zoo.py measure  # some minutes, on a quiet machine; writes the table

Each variant is built with random weights, through the parity gate, for a Raspberry Pi and a Jetson
in fp32 and int8, and for Linux in int8: the Jetson's symmetric graph is for TensorRT. Then LiteRT
and ONNX Runtime run them all, one thread, in turn, in one process, so that what the machine does
meanwhile meets all of them alike.
"""

import argparse
import datetime
import json
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit import bundle as bundles
from edgekit import plugins
from edgekit.cost.layers import cost
from edgekit.errors import EdgekitError
from edgekit.lower.build import build
from edgekit.lower.load import IMAGENET, build_network
from edgekit.lower.network import Argument
from edgekit.lower.plan import Request
from edgekit.manifest import Manifest
from edgekit.spec import ImageSpec, Session, SessionOptions

CIFAR = ImageSpec(32, 32)
BASE = "mobilenet_v2"

# What a builder's arguments vary: the papers' own widths, groups and scales.
ARGUMENTS: Mapping[str, tuple[Mapping[str, Argument], ...]] = {
    "mobilenet_v1": tuple({"width_mult": w} for w in (0.25, 0.5, 0.75, 1.0)),
    "mobilenet_v2": tuple({"width_mult": w} for w in (0.35, 0.5, 0.75, 1.0, 1.4)),
    "mobilenet_v3_small": ({}, {"minimalistic": True}),
    "mobilenet_v3_large": ({}, {"minimalistic": True}),
    "shufflenet_v1": (
        *({"groups": 3, "scale": s} for s in (0.5, 1.0, 1.5, 2.0)),
        *({"groups": g, "scale": 1.0} for g in (1, 2, 4, 8)),
    ),
}
BUILDS = (
    ("raspberry-pi", "fp32"),
    ("raspberry-pi", "int8"),
    ("jetson", "fp32"),
    ("jetson", "int8"),
    ("linux", "int8"),
)
MEASURED = {
    "LiteRT fp32": ("raspberry-pi", "fp32"),
    "LiteRT int8": ("raspberry-pi", "int8"),
    "ONNX Runtime fp32": ("jetson", "fp32"),  # the same graph as Linux's
    "ONNX Runtime int8": ("linux", "int8"),
}


@dataclass(frozen=True, slots=True)
class Variant:
    """A network of the zoo."""

    architecture: str
    arguments: Mapping[str, Argument]

    @property
    def name(self) -> str:
        stated = [str(v) if v is not True else k for k, v in self.arguments.items()]
        if self.architecture == "shufflenet_v1":
            stated = ["g{groups} {scale}x".format(**self.arguments)]
        return " ".join([self.architecture, *stated]).removesuffix(" 1.0")

    @property
    def image(self) -> ImageSpec:
        return CIFAR if self.architecture.startswith("cifar") else IMAGENET

    def folder(self, out: Path, target: str, precision: str) -> Path:
        return out / f"{self.name.replace(' ', '-')}-{target}-{precision}"


def variants() -> list[Variant]:
    """Every builder, with each of its published widths."""
    return [
        Variant(name, arguments)
        for name in plugins.architectures()
        for arguments in ARGUMENTS.get(name, ({},))
    ]


def build_all(out: Path, calibration: Path | None) -> int:
    """Build what is not there; returns how many were refused."""
    refused = 0
    for variant in variants():
        for target, precision in BUILDS:
            folder = variant.folder(out, target, precision)
            if folder.exists():
                continue
            request = Request(
                target=target,
                model=variant.architecture,
                weights="random",
                arguments=variant.arguments,
                image=variant.image,
                precision=precision,
                calibration=calibration,
                out=folder,
            )
            try:
                made = build(request, lambda _line: None)
                print(f"{folder.name}: {hops(made.manifest)}", flush=True)
            except EdgekitError as error:
                refused += 1
                print(f"{folder.name}: REFUSED: {error}", flush=True)
    return refused


def hops(manifest: Manifest) -> str:
    """SNR of each hop in dB; 200 stands for no difference."""
    return ", ".join(f"{hop.snr_db:.0f}" for hop in manifest.parity[:-1])


def measure(out: Path, rounds: int, runs: int) -> dict[str, dict[str, float]]:
    """Median milliseconds by variant and runtime."""
    sessions = {}
    for variant in variants():
        for runtime, (target, precision) in MEASURED.items():
            made = bundles.read(variant.folder(out, target, precision))
            load = plugins.loader(made.manifest.backend)
            model = made.path / made.manifest.model
            sessions[variant.name, runtime] = load(model, SessionOptions(threads=1))
    times: dict[tuple[str, str], list[float]] = {key: [] for key in sessions}
    for turn in range(rounds + 1):
        for key, session in sessions.items():
            measured = time_runs(session, runs)
            times[key] += measured if turn else []  # the first turn warms up
        print(f"turn {turn} of {rounds}", file=sys.stderr, flush=True)
    found: dict[str, dict[str, float]] = {}
    for (name, runtime), values in times.items():
        found.setdefault(name, {})[runtime] = float(np.median(values))
    return found


def time_runs(session: Session, runs: int) -> list[float]:
    """Milliseconds of each run on the same noise, the copy into the input memory included."""
    pixels = np.random.default_rng(0).integers(0, 256, session.inputs[0].shape, np.uint8)

    def fill(memory: Mapping[str, np.ndarray]) -> None:
        memory["image"][...] = pixels

    times = []
    for _ in range(runs):
        start = time.perf_counter_ns()
        session.run(fill)
        times.append((time.perf_counter_ns() - start) / 1e6)
    return times


def costs(variant: Variant) -> tuple[int, int]:
    """Parameters, batch norm's included, and MACs, of the form that is deployed."""
    module = build_network(variant.architecture, variant.arguments)
    if callable(deploy := getattr(module, "reparameterize", None)):
        deploy()
    found = cost(module, variant.image)
    return found.parameters, found.macs


def table(out: Path, times: Mapping[str, Mapping[str, float]]) -> str:
    """The page."""
    lines = [PAGE.format(date=datetime.date.today(), machine=platform.machine())]
    lines.append("| variant | parameters | MACs | fp32 | int8 | " + " | ".join(MEASURED) + " |")
    lines.append("|---|--:|--:|--:|--:|" + "--:|" * len(MEASURED))
    base = times[BASE]
    found = {variant.name: costs(variant) for variant in variants()}
    slower: list[tuple[float, str]] = []
    for variant in sorted(variants(), key=lambda v: (v.image != IMAGENET, v.name)):
        parameters, macs = found[variant.name]
        share = macs / found[BASE][1]
        sizes = [
            (variant.folder(out, "raspberry-pi", precision) / "model.tflite").stat().st_size
            for precision in ("fp32", "int8")
        ]
        mine = times[variant.name]
        cells = [f"{mine[r]:.2f} ({mine[r] / base[r]:.2f})" for r in MEASURED]
        lines.append(
            f"| {variant.name} | {parameters / 1e6:.2f} M | {macs / 1e6:.0f} M ({share:.2f}) | "
            f"{sizes[0] / 1e6:.1f} MB | {sizes[1] / 1e6:.1f} MB | {' | '.join(cells)} |"
        )
        if variant.image == IMAGENET:
            ratio = mine[SHOWN] / base[SHOWN]
            text = f"{variant.name} ({share:.2f} of the MACs, {ratio:.2f} of the time)"
            slower.append((ratio / share, text))
    most = [f"- {text}" for _, text in sorted(slower, reverse=True)]
    lines += ["", MACS.format(most="\n".join(most[:5]), least="\n".join(most[:-4:-1]))]
    lines += ["", GATE]
    return "\n".join(lines) + "\n"


PAGE = """# The zoo, measured

Written by `scripts/bench/zoo.py` on {date}, {machine}, two virtual cores, one thread. Milliseconds
are medians of one run in one process, in which all variants took turns; in brackets the ratio to
MobileNetV2 on the same runtime. Images are 224x224, of the CIFAR networks 32x32. Sizes are of the
`.tflite` file. MACs are those of convolutions and linear layers; MobileOne is in its deploy form.
"""
SHOWN = "LiteRT int8"
MACS = """Fewer MACs are not always faster. On LiteRT in int8, the longest for its share of
MobileNetV2's MACs take

{most}

Cheap operators (depthwise convolutions, concatenations, shuffles, squeeze-and-excite) move as many
bytes as dear ones. The least take

{least}"""
GATE = "What the parity gate finds on every runtime is in [runtimes.md](runtimes.md)."


def main() -> None:
    """Build, or measure and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("step", choices=("build", "measure"))
    parser.add_argument("-o", "--out", type=Path, default=Path("build/zoo"))
    parser.add_argument("--calibration", type=Path, help="real images, else sample photographs")
    parser.add_argument("--page", type=Path, default=Path("docs/zoo.md"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--runs", type=int, default=5, help="in a round, for each model")
    given = parser.parse_args()
    if given.step == "build":
        raise SystemExit(1 if build_all(given.out, given.calibration) else 0)
    times = measure(given.out, given.rounds, given.runs)
    (given.out / "times.json").write_text(json.dumps(times, indent=1))
    given.page.write_text(table(given.out, times), encoding="utf-8")


if __name__ == "__main__":
    main()
