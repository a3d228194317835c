"""Replay of the proofs that a bundle carries: real frames, the expected input, the expected output.

Two things are proven apart, so that a failure says where it lies: that this machine's `prepare`
makes the same input of the same frame, and that this machine's runtime makes the same output of
the same input.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.bundle import Bundle, Golden, Tolerance
from edgekit.device.image import prepare, read_image
from edgekit.errors import BundleError
from edgekit.spec import ImageSpec, Session

INPUT_TOLERANCE = 1
"""Pixel values by which `prepare` may differ between machines: their SIMD rounds differently."""
SNR_LIMIT_DB = 200.0
"""What equal arrays get: JSON knows no infinity."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far `found` is from `expected`, over all rows."""

    max_abs_error: float
    """In units of the values (logits)."""
    snr_db: float
    """10 log10(sum(expected^2) / sum((expected - found)^2)), at most 200."""
    top1_agreement: float
    """Share of rows with the same largest value, in [0, 1]."""

    def within(self, tolerance: Tolerance) -> bool:
        """Whether all three hold."""
        return (
            self.max_abs_error <= tolerance.max_abs_error
            and self.snr_db >= tolerance.snr_db
            and self.top1_agreement >= tolerance.top1_agreement
        )


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """One golden frame, replayed."""

    frame: str
    input_error: int
    """Largest difference of the prepared pixels, 0 to 255."""
    output: Difference


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """All golden frames of a bundle, replayed."""

    cases: tuple[GoldenCase, ...]
    failures: tuple[str, ...]
    """One sentence for each thing that does not hold, the first cause first; empty: all holds."""

    @property
    def passed(self) -> bool:
        """Whether everything holds."""
        return not self.failures


def difference(expected: np.ndarray, found: np.ndarray) -> Difference:
    """Compare two (N, classes) arrays; NaN or infinity in `found` counts as infinitely far."""
    exact, got = expected.astype(np.float64), found.astype(np.float64)
    if exact.shape != got.shape or not np.isfinite(got).all():
        return Difference(float("inf"), -SNR_LIMIT_DB, 0.0)
    noise = exact - got
    power, error = float((exact**2).sum()), float((noise**2).sum())
    if error == 0.0:
        snr = SNR_LIMIT_DB
    elif power == 0.0:
        snr = -SNR_LIMIT_DB
    else:
        snr = min(10.0 * float(np.log10(power / error)), SNR_LIMIT_DB)
    same = exact.argmax(axis=-1) == got.argmax(axis=-1)
    return Difference(float(np.abs(noise).max(initial=0.0)), snr, float(same.mean()))


def run_image(session: Session, pixels: np.ndarray, image: ImageSpec) -> Mapping[str, np.ndarray]:
    """Prepare one RGB image (H, W, 3) uint8 into the session's input and run it."""
    name = session.inputs[0].name

    def fill(inputs: Mapping[str, np.ndarray]) -> None:
        prepare(pixels, "RGB", image, inputs[name][0])

    return session.run(fill)


def run_input(session: Session, tensor: np.ndarray) -> Mapping[str, np.ndarray]:
    """Copy a whole input tensor, for instance (1, h, w, 3) uint8, into the session and run it."""
    name = session.inputs[0].name

    def fill(inputs: Mapping[str, np.ndarray]) -> None:
        np.copyto(inputs[name], tensor, casting="no")

    return session.run(fill)


def replay(bundle: Bundle, session: Session) -> GoldenResult:
    """Run every golden frame of `bundle` through `session` and compare.

    Raises:
        ImageError: a golden frame cannot be decoded.
        BundleError: a golden array cannot be read or does not fit the model.
    """
    cases: list[GoldenCase] = []
    failures: list[str] = []
    if not bundle.manifest.golden:
        failures.append("the bundle has no golden frames: nothing is proven; build it again")
    for golden in bundle.manifest.golden:
        case = _replay(bundle, session, golden)
        cases.append(case)
        failures += _judge(case, bundle.manifest.golden_tolerance)
    return GoldenResult(tuple(cases), tuple(failures))


def _replay(bundle: Bundle, session: Session, golden: Golden) -> GoldenCase:
    image = bundle.manifest.image
    expected = _array(bundle.path / golden.input)
    prepared = np.zeros((1, image.height, image.width, 3), np.uint8)
    if expected.shape != prepared.shape or expected.dtype != np.uint8:
        raise BundleError(
            f"{golden.input} must be {prepared.shape} uint8, is {expected.shape} {expected.dtype}"
        )
    prepare(read_image(bundle.path / golden.frame), "RGB", image, prepared[0])
    found = run_input(session, expected)[session.outputs[0].name]
    return GoldenCase(
        golden.frame,
        int(np.abs(prepared.astype(np.int16) - expected.astype(np.int16)).max()),
        difference(_array(bundle.path / golden.output), found),
    )


def _judge(case: GoldenCase, allowed: Tolerance) -> list[str]:
    failures = []
    if case.input_error > INPUT_TOLERANCE:
        failures.append(
            f"{case.frame}: this machine prepares other pixels than the bundle's "
            f"(by {case.input_error} of 255, {INPUT_TOLERANCE} is allowed)"
        )
    found = case.output
    if not found.within(allowed):
        failures.append(
            f"{case.frame}: the model's output differs: max error {found.max_abs_error:.4g} "
            f"(at most {allowed.max_abs_error:.4g}), SNR {found.snr_db:.1f} dB "
            f"(at least {allowed.snr_db:.1f}), top-1 agreement {found.top1_agreement:.2f} "
            f"(at least {allowed.top1_agreement:.2f})"
        )
    return failures


def _array(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BundleError(f"cannot read the golden array {path}: {error}") from error
    return array
