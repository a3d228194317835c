"""The parity gate: each hop from the eager network to the bundle, on real images, blocking.

    eager -> exported -> quantised (int8 only) -> lowered -> bundle

A hop is held to a tolerance that belongs to its kind and to the precision. Where one is breached
the build ends with the hop, its figures, and the first layer that differs.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from edgekit.device.golden import Difference, difference, run_input
from edgekit.errors import EdgekitError, ParityError
from edgekit.lower.taps import LayerSnr
from edgekit.manifest import Hop, Tolerance
from edgekit.spec import Precision, Session

IMAGES = 48
"""How many images the gate compares; a torch int8 program takes 0.1 s for each."""

EXACT = (1e-4, 90.0, 1.0)
"""The same arithmetic, in another order: (max error / largest logit, SNR dB, top-1)."""
LOWERED: dict[Precision, tuple[float, float, float]] = {
    "fp32": (1e-3, 70.0, 0.99),
    "fp16": (0.05, 30.0, 0.95),
    "int8": (0.5, 12.0, 0.6),
}
"""Another runtime; of int8 the least that is asked, see `lowered_limits`."""
QUANTISED = (0.5, 10.0, 0.6)
"""Float against int8, both in torch."""
MARGIN = 6.0
"""dB by which a lowered int8 program may be further from the quantised one than that is from float.
Measured: right builds are 0 to 7 dB nearer, a dropped bias or permuted weights 15 to 30 dB off."""


def tolerance(limits: tuple[float, float, float], expected: np.ndarray) -> Tolerance:
    """Limits relative to the largest logit -> absolute ones, on these logits."""
    relative, snr_db, agreement = limits
    return Tolerance(_round(relative * float(np.abs(expected).max())), snr_db, agreement)


def judged(limits: tuple[float, float, float], trained: bool) -> tuple[float, float, float]:
    """The limits for this network: of random weights, the largest logit means nothing."""
    return limits if trained else (*limits[:2], 0.0)


def lowered_limits(
    precision: Precision, quantised: Hop | None, trained: bool = True
) -> tuple[float, float, float]:
    """Limits of the hop to another runtime.

    int8: rounding that differs in one last place at one layer becomes whole steps in the next, so
    two right int8 runtimes differ by about as much as int8 differs from float, and no more.
    """
    relative, snr_db, agreement = LOWERED[precision]
    if quantised is not None:
        snr_db = round(max(snr_db, quantised.snr_db - MARGIN), 1)
    return judged((relative, snr_db, agreement), trained)


def check_hop(
    name: str,
    expected: np.ndarray,
    found: np.ndarray,
    allowed: Tolerance,
    locate: Callable[[], LayerSnr | None],
) -> Hop:
    """Compare the logits of one hop, (N, classes) both.

    Args:
        name: `eager -> exported` and so on.
        expected: before the hop.
        found: after it.
        allowed: what the hop is held to.
        locate: finds the first layer that differs; called only on a breach.

    Raises:
        ParityError: names the hop, its figures and the layer.
    """
    apart = difference(expected, found)
    if not apart.within(allowed):
        raise ParityError(_explain(name, apart, allowed, locate))
    return Hop(
        name=name,
        images=len(expected),
        max_abs_error=_round(apart.max_abs_error),
        snr_db=round(apart.snr_db, 1),
        top1_agreement=round(apart.top1_agreement, 4),
        tolerance=allowed,
    )


def run_module(module: nn.Module, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """Logits (N, classes) of a torch module on (1, H, W, 3) uint8 inputs."""
    with torch.inference_mode():
        return np.concatenate([module(torch.from_numpy(t)).numpy() for t in inputs])


def run_session(session: Session, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """Logits (N, classes) of a session on (1, H, W, 3) uint8 inputs."""
    name = session.outputs[0].name
    return np.concatenate([run_input(session, t)[name] for t in inputs])


def _explain(
    name: str,
    apart: Difference,
    allowed: Tolerance,
    locate: Callable[[], LayerSnr | None],
) -> str:
    try:
        found = locate()
        where = f"first diverging layer: {found}" if found else "no single layer diverges alone"
    except EdgekitError as cause:
        where = f"the layer could not be found: {cause}"
    return (
        f"parity gate: the hop '{name}' fails: SNR {apart.snr_db:.1f} dB (at least "
        f"{allowed.snr_db:.0f}), max error {apart.max_abs_error:.3g} (at most "
        f"{allowed.max_abs_error:.3g}), top-1 agreement {apart.top1_agreement:.0%} (at least "
        f"{allowed.top1_agreement:.0%}); {where}; no bundle was written"
    )


def _round(value: float) -> float:
    """Three significant digits: what a machine's last bit changes is not recorded."""
    if value == 0 or not math.isfinite(value):
        return value
    return round(value, 2 - math.floor(math.log10(abs(value))))
