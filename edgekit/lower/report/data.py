"""All that a build knows of a bundle, as plain values: what `report.json` and `report.html` say."""

import dataclasses
import datetime
import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import files, plugins
from edgekit.cost.layers import Cost, cost
from edgekit.cost.memory import Peak, peak_activations
from edgekit.device.describe import placement_lines
from edgekit.device.golden import run_input
from edgekit.device.measure.interval import wilson
from edgekit.errors import CheckFailed, MissingPackage, SpecError, UnknownName
from edgekit.lower.gate.taps import LayerSnr
from edgekit.lower.network import Network, folded
from edgekit.lower.plan import Plan
from edgekit.lower.prove import Proof
from edgekit.lower.report.fusion import Fusion, fusion
from edgekit.manifest import Hop, Manifest
from edgekit.spec import Placement, Session

RUNS, WARMUP = 50, 5


@dataclass(frozen=True, slots=True)
class Latency:
    """Of single runs on the machine that built the bundle, ms."""

    p50: float
    p95: float
    runs: int
    all: tuple[float, ...]
    """In the order in which they ran."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What depends on the machine and the day."""

    built: str
    """ISO 8601, UTC."""
    build_seconds: float
    machine: str
    latency_ms: Latency
    runtime: tuple[str, ...]
    """What the runtime says that it does."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Top-1 of the float checkpoint, as its card states it, with its 95 % score interval."""

    top1: float
    low: float
    high: float
    images: int
    data: str


@dataclass(frozen=True, slots=True)
class Explained:
    """What was found in the network and in the model file."""

    model_bytes: int
    cost: Cost
    peak: Peak
    """Of activations, as float32."""
    fusion: Fusion
    operators: Mapping[str, int]
    """Of the model file, the most frequent first; empty where the backend cannot tell."""
    placement: Placement | None
    unplaced: str
    """Why there is no placement; empty where there is one."""


@dataclass(frozen=True, slots=True)
class Report:
    """`report.json`."""

    name: str
    target: str
    backend: str
    precision: str
    measured: Measured
    explained: Explained
    accuracy: Interval | None
    parity: tuple[Hop, ...]
    layers: Mapping[str, Sequence[LayerSnr]]
    """Of each hop that was looked into, by its name: every layer."""
    notes: tuple[str, ...]
    tools: Mapping[str, str]


def explain(plan: Plan, network: Network, proof: Proof) -> Explained:
    """Read the model file, and look at what was lowered into it."""
    backend, model = plan.target.backend, proof.artifact.model
    deployed = folded(network).module
    placement, unplaced = None, ""
    try:
        placement = plugins.placer(backend)(model, plan.session)
    except (MissingPackage, SpecError, UnknownName) as error:
        unplaced = str(error)
    return Explained(
        model_bytes=files.size(model),
        cost=cost(deployed, network.image),
        peak=peak_activations(proof.exported),
        fusion=fusion(network, deployed, proof.exported),
        operators=_operators(backend, model),
        placement=placement,
        unplaced=unplaced,
    )


def placement_said(explained: Explained) -> tuple[str, ...]:
    """What falls back, a line each, to be said while building."""
    if explained.placement is None:
        return (f"what falls back is not known: {explained.unplaced}",)
    return placement_lines(explained.placement)[:-1]


def refuse_fallback(explained: Explained, plan: Plan) -> None:
    """What `--no-fallback` asks.

    Raises:
        CheckFailed: names the operators that fall back, and the way out; or nobody can tell.
    """
    if explained.placement is None:
        raise CheckFailed(
            f"--no-fallback: it cannot be told what falls back: {explained.unplaced}; "
            "build without --no-fallback; no bundle was written"
        )
    fallen = explained.placement.fallen
    if not fallen:
        return
    named = "; ".join(f"{op.kind} '{op.name}': {op.reason}" for op in fallen[:5])
    more = f"; and {len(fallen) - 5} more" if len(fallen) > 5 else ""
    others = [name for name in (plan.target.other or {}) if name != plan.target.backend]
    raise CheckFailed(
        f"--no-fallback: {explained.placement.accelerator} refuses {len(fallen)} of "
        f"{len(explained.placement.operators)} operators: {named}{more}. Write the network without "
        f"them, try another --precision{_or_backend(others)}, or build without --no-fallback; "
        "no bundle was written"
    )


def _or_backend(others: Sequence[str]) -> str:
    return f" or --backend ({', '.join(others)})" if others else ""


def measure(session: Session, sample: np.ndarray, seconds: float) -> Measured:
    """Time single runs of an open session.

    Args:
        session: the bundle's own.
        sample: (1, H, W, 3) uint8.
        seconds: time the build took so far.
    """
    times = []
    for _ in range(WARMUP + RUNS):
        started = time.perf_counter_ns()
        run_input(session, sample)
        times.append((time.perf_counter_ns() - started) / 1e6)
    timed = times[WARMUP:]
    p50, p95 = (round(float(np.percentile(timed, share)), 3) for share in (50, 95))
    return Measured(
        built=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        build_seconds=round(seconds, 1),
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        latency_ms=Latency(p50, p95, RUNS, tuple(round(ms, 3) for ms in timed)),
        runtime=session.notes,
    )


def gather(
    manifest: Manifest,
    explained: Explained,
    measured: Measured,
    layers: Mapping[str, Sequence[LayerSnr]],
) -> Report:
    """The report of a bundle whose manifest is complete but for the file list."""
    found = manifest.accuracy
    accuracy = None
    if found is not None:
        interval = wilson(found.top1, found.images)
        accuracy = Interval(found.top1, *interval, found.images, found.data)
    return Report(
        name=manifest.name,
        target=manifest.target,
        backend=manifest.backend,
        precision=manifest.precision,
        measured=measured,
        explained=explained,
        accuracy=accuracy,
        parity=manifest.parity,
        layers=layers,
        notes=manifest.notes,
        tools=manifest.provenance.tools,
    )


def as_json(report: Report) -> str:
    """`report.json`: the measured and the explained beside what they are of, two spaces deep."""
    fields = dataclasses.asdict(report)
    measured, explained = fields.pop("measured"), fields.pop("explained")
    flat = {**measured, **fields, **explained}
    return json.dumps(_finite(flat), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: such a number becomes null."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _operators(backend: str, model: Path) -> dict[str, int]:
    try:
        counts = plugins.reader(backend)(model)
    except (MissingPackage, UnknownName):
        return {}
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
