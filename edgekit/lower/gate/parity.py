"""The parity gate: each hop from the eager network to the bundle, blocking.

    eager -> folded -> exported -> quantised (int8 only) -> lowered -> packaged

A hop is compared on real images, and apart from them on the edge set (see `edges`), and is held to
a tolerance that belongs to its kind and to the precision. Where one is breached the build ends with
the hop, its figures, and the first layer that differs.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from edgekit.device.golden import Difference, difference, run_input
from edgekit.errors import EdgekitError, ParityError
from edgekit.lower.gate.taps import LayerSnr, first_divergence
from edgekit.manifest import Edges, Hop, Tolerance
from edgekit.spec import Precision, Session

IMAGES = 48
"""How many images the gate compares; a torch int8 program takes 0.1 s for each."""
FEW = 4
"""Images that the first diverging layer is looked for with: those that differ most."""

Limits: TypeAlias = tuple[float, float, float]
"""(max error / largest logit, SNR dB, top-1 agreement)."""

EXACT: Limits = (1e-4, 90.0, 1.0)
"""The same arithmetic, in another order."""
LOWERED: dict[Precision, Limits] = {
    "fp32": (1e-3, 70.0, 0.99),
    "fp16": (0.05, 30.0, 0.95),
    "int8": (0.5, 12.0, 0.6),
    "int8-weights": (1e-3, 70.0, 0.99),
    "int4-weights": (1e-3, 70.0, 0.99),
}
"""Another runtime; of int8 the least that is asked, see `lowered_limits`."""
SAME: Limits = (0.05, 40.0, 0.98)
"""Another runtime, of an int8 program that no runtime can round differently (see `exact`): it gives
the same integers. A step of one logit is 0.4 % of their range."""
QUANTISED: Limits = (0.5, 10.0, 0.6)
"""Float against int8, both in torch."""
EDGES_EXACT: Limits = (1e-3, 70.0, 0.0)
"""The same arithmetic on the edge set: where an image is constant, a variance is zero, and a norm
over the image divides rounding by the square root of its epsilon. Measured: 86 dB there, 106 dB and
more in the zoo."""
EDGES_QUANTISED: Limits = (1.5, 0.0, 0.0)
"""The same on the edge set, whose activations calibration has not seen: no more noise than signal.
Measured: 10 dB and 0.31 in MobileNetV2 with its published weights, 14 dB and more in the zoo; 2 dB
in small residual networks brought along, on an image that is one pixel high."""
WEIGHTS: dict[Precision, tuple[Limits, Limits]] = {
    "int8-weights": ((0.3, 20.0, 0.8), (0.5, 12.0, 0.0)),
    "int4-weights": ((0.8, 5.0, 0.5), (1.0, 2.0, 0.0)),
}
"""Float against integer weights, both in torch: on real images, and on the edge set."""
MARGIN = 6.0
"""dB by which a lowered int8 program may be further from the quantised one than that is from float.
Measured: right builds are 0 to 7 dB nearer, a dropped bias or permuted weights 15 to 30 dB off."""


class HopError(ParityError):
    """A hop that was breached, with every layer of it."""

    def __init__(self, message: str, hop: str, layers: Sequence[LayerSnr], snr_db: float):
        super().__init__(message)
        self.hop = hop
        self.layers = tuple(layers)
        self.snr_db = snr_db
        """What each layer was looked for with, dB."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What every hop is run on: (1, H, W, 3) uint8 each."""

    real: Sequence[np.ndarray]
    edges: Mapping[str, np.ndarray]
    """By what they are."""

    @property
    def inputs(self) -> tuple[np.ndarray, ...]:
        """All of them, the real ones first."""
        return (*self.real, *self.edges.values())


LayersOn: TypeAlias = Callable[[Sequence[np.ndarray]], Sequence[LayerSnr]]
"""Compares every layer of a hop on some inputs."""


def tolerance(limits: Limits, expected: np.ndarray) -> Tolerance:
    """Limits relative to the largest logit -> absolute ones, on these logits."""
    relative, snr_db, agreement = limits
    return Tolerance(_round(relative * float(np.abs(expected).max())), snr_db, agreement)


def judged(limits: Limits, trained: bool) -> Limits:
    """The limits for this network: of random weights, the largest logit means nothing."""
    return limits if trained else (*limits[:2], 0.0)


def lowered_limits(
    precision: Precision, quantised: Hop | None, trained: bool = True, same: bool = False
) -> Limits:
    """Limits of the hop to another runtime.

    int8: where runtimes may round differently (not `same`), a last place at one layer becomes whole
    steps in the next, so two right ones differ by about as much as int8 differs from float.
    """
    if same:
        return judged(SAME, trained)
    relative, snr_db, agreement = LOWERED[precision]
    if quantised is not None:
        snr_db = round(max(snr_db, quantised.snr_db - MARGIN), 1)
    return judged((relative, snr_db, agreement), trained)


def lowered_edges(precision: Precision, quantised: Hop | None, same: bool) -> Limits:
    """The same on the edge set: as far from the quantised program as that is from float."""
    if same:
        return judged(SAME, trained=False)
    if quantised is None or quantised.edges is None:
        return LOWERED[precision]
    relative, snr_db, agreement = EDGES_QUANTISED
    return relative, round(max(snr_db, quantised.edges.snr_db - MARGIN), 1), agreement


def hold(
    name: str,
    probe: Probe,
    expected: np.ndarray,
    found: np.ndarray,
    limits: Limits,
    edge_limits: Limits,
    layers: LayersOn,
) -> Hop:
    """Hold one hop to its limits, on the real images and then on the edge set.

    Args:
        name: `eager -> folded` and so on.
        probe: what was run.
        expected: (N, classes) before the hop, of `probe.inputs`.
        found: (N, classes) after it.
        limits: on real images.
        edge_limits: on the edge set, but for top-1: its answers mean nothing.
        layers: compares every layer on some inputs; called only on a breach.

    Raises:
        HopError: names the hop, its figures and the layer.
    """
    count = len(probe.real)
    real, edges = (expected[:count], found[:count]), (expected[count:], found[count:])
    few = [probe.real[i] for i in worst(*real)]
    hop = check_hop(name, *real, tolerance(limits, real[0]), lambda: layers(few))
    if not probe.edges:
        return hop
    names = [list(probe.edges)[i] for i in worst(*edges)]
    odd = [probe.edges[n] for n in names]
    allowed = tolerance(judged(edge_limits, trained=False), edges[0])
    on = f" on generated images (worst: {names[0]})"
    edge = check_hop(name, *edges, allowed, lambda: layers(odd), on)
    return replace(hop, edges=Edges(edge.images, edge.max_abs_error, edge.snr_db, allowed))


def check_hop(
    name: str,
    expected: np.ndarray,
    found: np.ndarray,
    allowed: Tolerance,
    layers: Callable[[], Sequence[LayerSnr]],
    on: str = "",
) -> Hop:
    """Compare the logits of one hop, (N, classes) both.

    Args:
        name: `eager -> folded` and so on.
        expected: before the hop.
        found: after it.
        allowed: what the hop is held to.
        layers: compares every layer; called only on a breach.
        on: which images, for the message.

    Raises:
        HopError: names the hop, its figures and the layer.
    """
    apart = difference(expected, found)
    if not apart.within(allowed):
        raise _breach(name, on, apart, allowed, layers)
    return Hop(
        name=name,
        images=len(expected),
        max_abs_error=_round(apart.max_abs_error),
        snr_db=round(apart.snr_db, 1),
        top1_agreement=round(apart.top1_agreement, 4),
        tolerance=allowed,
    )


def worst(expected: np.ndarray, found: np.ndarray) -> list[int]:
    """Up to `FEW` rows that differ most, the one that does so the most first."""
    if expected.shape != found.shape:
        return list(range(min(FEW, len(expected))))
    rows = range(len(expected))
    snr = [difference(expected[i : i + 1], found[i : i + 1]).snr_db for i in rows]
    return sorted(rows, key=lambda i: snr[i])[:FEW]


def run_module(module: nn.Module, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """Logits (N, classes) of a torch module on (1, H, W, 3) uint8 inputs."""
    with torch.inference_mode():
        return np.concatenate([module(torch.from_numpy(t)).numpy() for t in inputs])


def run_session(session: Session, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """Logits (N, classes) of a session on (1, H, W, 3) uint8 inputs."""
    name = session.outputs[0].name
    return np.concatenate([run_input(session, t)[name] for t in inputs])


def _breach(
    name: str,
    on: str,
    apart: Difference,
    allowed: Tolerance,
    layers: Callable[[], Sequence[LayerSnr]],
) -> HopError:
    found: Sequence[LayerSnr] = ()
    try:
        found = layers()
        where = _locate(found, allowed.snr_db)
    except EdgekitError as cause:
        where = f"the layer could not be found: {cause}"
    message = (
        f"parity gate: the hop '{name}' fails{on}: SNR {apart.snr_db:.1f} dB (at least "
        f"{allowed.snr_db:.0f}), max error {apart.max_abs_error:.3g} (at most "
        f"{allowed.max_abs_error:.3g}), top-1 agreement {apart.top1_agreement:.0%} (at least "
        f"{allowed.top1_agreement:.0%}); {where}; no bundle was written"
    )
    return HopError(message, name, found, allowed.snr_db)


def _locate(layers: Sequence[LayerSnr], snr_db: float) -> str:
    first = first_divergence(layers, snr_db)
    if first is not None:
        return f"first diverging layer: {first}"
    if len(layers) < 2:
        return "no single layer diverges alone"
    _, after = min(pairwise(layers), key=lambda pair: pair[1].snr_db - pair[0].snr_db)
    return f"no single layer diverges alone; the largest fall is at {after}"


def _round(value: float) -> float:
    """Three significant digits: what a machine's last bit changes is not recorded."""
    if value == 0 or not math.isfinite(value):
        return value
    return round(value, 2 - math.floor(math.log10(abs(value))))
