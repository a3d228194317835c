"""The zoo on every runtime, in every precision, through the gate: one table, `docs/runtimes.md`.

    python scripts/bench/runtimes.py [NETWORK ...] [--size 224]   # goes on where it stopped
    python scripts/bench/runtimes.py --page                       # writes the table of what is done

Each network is exported once and quantised once, with random weights settled on real images; that
program is lowered by every backend that is installed, each behind the gate. Then the sessions take
turns, one thread, in this process, and give their answers on the same images: of int8 the integers
are compared, pair by pair. Core ML runs in edgekit's interpreter off macOS: it is not timed there.
"""

import argparse
import dataclasses
import datetime
import itertools
import json
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import plugins
from edgekit.device.measure.compare import grid
from edgekit.errors import EdgekitError
from edgekit.lower.build import read_images
from edgekit.lower.calibrate import Images
from edgekit.lower.gate import parity
from edgekit.lower.load import IMAGENET, load_network
from edgekit.lower.plan import Plan, Request, make_plan
from edgekit.lower.prepare import prepare
from edgekit.lower.prove import lower
from edgekit.spec import PRECISIONS, ImageSpec, Precision, Session

TARGETS = {
    "litert": "raspberry-pi",
    "onnx": "linux",
    "openvino": "linux",
    "executorch": "android",
    "coreml": "ios",
}
"""The target whose settings each backend is lowered with."""
TIMED = {"litert", "onnx", "openvino", "executorch"}
NETWORKS = (
    *("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"),
    *("mobilenetv4_conv_small", "mobileone_s0", "shufflenet_v1", "shufflenet_v2_x1_0"),
    *("ghostnet_100", "squeezenet1_1", "efficientnet_b0", "efficientnet_lite0", "resnet18"),
    *("cifar_resnet20",),
)
COMPARED = 16
"""Images whose answers are compared."""
ROUNDS, RUNS = 8, 3


def plan(backend: str, precision: Precision) -> Plan:
    """As `edgekit build` would, on one thread."""
    made = make_plan(Request(TARGETS[backend], backend=backend, precision=precision))
    return dataclasses.replace(made, session=dataclasses.replace(made.session, threads=1))


def measure(name: str, precision: Precision, size: int, calibration: Path | None) -> dict[str, Any]:
    """Lower one network everywhere; what came of it."""
    image = ImageSpec(32, 32) if name.startswith("cifar") else ImageSpec(size, size)
    network = load_network(name, "random", None, image if size != 224 else IMAGENET, {})
    images = read_images(calibration, network.image)
    prepared = prepare(plan("litert", precision), network, images, _silent)
    row: dict[str, Any] = {"network": name, "precision": precision, "size": size, "backends": {}}
    with ExitStack() as stack:
        sessions: dict[str, Session] = {}
        for backend in (b for b in plugins.backends() if b in TARGETS):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-")))
            found, session = _lowered(plan(backend, precision), prepared, folder)
            row["backends"][backend] = found
            if session is not None:
                sessions[backend] = stack.enter_context(closing(session))
        _time(sessions, images, row["backends"])
        if precision == "int8":
            row["pairs"] = dict(_pairs(sessions, images))
    return row


def _lowered(chosen: Plan, prepared: Any, folder: Path) -> tuple[dict[str, Any], Session | None]:
    try:
        proof = lower(prepared, chosen, folder, _silent)
        model = proof.artifact.model
        files = [model] if model.is_file() else [p for p in model.rglob("*") if p.is_file()]
        size = sum(path.stat().st_size for path in files)
        session = chosen.load(model, chosen.session)
    except EdgekitError as error:
        return {"refused": str(error)}, None
    hops = {hop.name: hop.snr_db for hop in proof.hops}
    return {"hops": hops, "bytes": size}, session


def _time(sessions: Mapping[str, Session], images: Images, rows: dict[str, Any]) -> None:
    """Medians of runs in turn, milliseconds."""
    timed = {name: session for name, session in sessions.items() if name in TIMED}
    times: dict[str, list[float]] = {name: [] for name in timed}
    for turn in range(ROUNDS + 1):
        for name, session in timed.items():
            measured = [_run(session, images.inputs[0]) for _ in range(RUNS)]
            times[name] += measured if turn else []
    for name, values in times.items():
        rows[name]["ms"] = round(float(np.median(values)), 3)


def _run(session: Session, pixels: np.ndarray) -> float:
    start = time.perf_counter_ns()
    parity.run_session(session, [pixels])
    return (time.perf_counter_ns() - start) / 1e6


def _pairs(sessions: Mapping[str, Session], images: Images) -> Iterator[tuple[str, Any]]:
    """Of each two runtimes: share of equal logits, largest difference in steps."""
    inputs = images.first(COMPARED).inputs
    logits = {name: parity.run_session(session, inputs) for name, session in sessions.items()}
    step = grid(next(iter(logits.values()))) or 1.0
    for one, two in itertools.combinations(logits, 2):
        apart = np.abs(logits[one] - logits[two]) / step
        same = (logits[one].argmax(1) == logits[two].argmax(1)).mean()
        yield (
            f"{one}, {two}",
            {
                "equal": round(float((apart < 0.5).mean()), 5),
                "steps": round(float(apart.max())),
                "top1": round(float(same), 4),
            },
        )


def _silent(line: str) -> None:
    pass


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown."""
    backends = sorted({name for row in rows for name in row["backends"]})
    lines = [PAGE.format(date=datetime.date.today(), machine=platform.machine())]
    lines.append(
        "| network | side, pixels | precision | " + " | ".join(backends) + " | int8: equal logits |"
    )
    lines.append("|---|--:|---|" + "--:|" * len(backends) + "---|")
    for row in sorted(rows, key=lambda row: (row["network"], PRECISIONS.index(row["precision"]))):
        cells = [_cell(row["backends"].get(name)) for name in backends]
        lines.append(
            f"| {row['network']} | {row['size']} | {row['precision']} | {' | '.join(cells)} | "
            f"{_equal(row)} |"
        )
    refused = [
        f"- {row['network']} {row['precision']} on {name}: {found['refused']}"
        for row in rows
        for name, found in row["backends"].items()
        if "refused" in found
    ]
    if refused:
        lines += ["", "Refused:", "", *refused]
    return "\n".join(lines) + "\n"


def _cell(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    if "refused" in found:
        return "refused"
    snr = list(found["hops"].values())[-1]
    parts = ["equal" if snr >= 200 else f"{snr:.0f} dB", f"{found['bytes'] / 1e6:.1f} MB"]
    return ", ".join(parts + ([f"{found['ms']:.2f} ms"] if "ms" in found else []))


def _equal(row: Mapping[str, Any]) -> str:
    pairs = row.get("pairs")
    if not pairs:
        return ""
    least = min(pair["equal"] for pair in pairs.values())
    steps = max(pair["steps"] for pair in pairs.values())
    if least == 1:
        return f"all {len(pairs)} pairs: every one"
    odd = [name for name, pair in pairs.items() if pair["equal"] < 1]
    top1 = min(pair["top1"] for pair in pairs.values())
    return f"{least:.2%} at least, {steps} steps at most, top-1 {top1:.0%} ({'; '.join(odd)})"


PAGE = """# Every runtime, measured

Written by `scripts/bench/runtimes.py` on {date}, {machine}, two virtual cores, one thread each.
Random weights, batch norm settled on real images. A cell is the SNR of the gate's hop to that
runtime ("equal": no bit differs), the size of the model, and the median time of a run, all runtimes
of a row in turn in one process; the machine was busy, so compare within a row. Core ML is proven by
edgekit's interpreter of its program, and not timed. The last column compares int8 logits between
all pairs of runtimes.
"""


def main() -> None:
    """Measure what is not yet there, or write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--precision", choices=PRECISIONS, action="append")
    parser.add_argument("--calibration", type=Path, help="real images, else sample photographs")
    parser.add_argument("--rows", type=Path, default=Path("build/runtimes.jsonl"))
    parser.add_argument("--page", action="store_true", help="write docs/runtimes.md")
    given = parser.parse_args()
    given.rows.parent.mkdir(parents=True, exist_ok=True)
    lines = given.rows.read_text().splitlines() if given.rows.exists() else []
    rows = [json.loads(line) for line in lines]
    if given.page:
        Path("docs/runtimes.md").write_text(page(rows), encoding="utf-8")
        return
    done = {(row["network"], row["precision"], row["size"]) for row in rows}
    for name, precision in itertools.product(given.networks, given.precision or PRECISIONS):
        if (name, precision, given.size) in done:
            continue
        row = measure(name, precision, given.size, given.calibration)
        with given.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
