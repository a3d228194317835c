"""What a run cost: time per stage, frame age, drops, and bytes copied, counted as they happen."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from edgekit.device.capture.steady import Steady
from edgekit.device.copies import KINDS, Copies
from edgekit.device.frame import Camera, Frame
from edgekit.device.histogram import Histogram

Stage: TypeAlias = Literal["capture", "wait", "prepare", "infer", "decode", "output"]
STAGES: tuple[Stage, ...] = ("capture", "wait", "prepare", "infer", "decode", "output")


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations of one kind, ms; percentiles are at most 1 % too high."""

    mean: float
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Summary:
    """A finished run, in plain numbers."""

    frames: int
    """Frames that were used."""
    produced: int
    """Frames that the source made, from the first one captured to the last one used."""
    dropped: int
    """Those that were not used: a newer one was there, or nobody took them from the driver."""
    broken: int
    """Of the dropped ones, those that could not be decoded."""
    restarts: int
    """How often the camera was opened again after it failed."""
    seconds: float
    """From the first frame's capture to the last answer."""
    fps: float
    age_ms: Timing
    """From a frame's capture to its answer."""
    stages_ms: Mapping[str, Timing]
    """`capture` is the wait for a camera, or the decoding of a file, in a thread of its own; `wait`
    is how long the loop then has nothing to do."""
    bytes_per_frame: Mapping[str, float]
    """Per kind (see `copies`) and per used frame; what dropped frames cost is included."""
    reasons: Mapping[str, float]
    """The same bytes by `kind: reason`."""

    @property
    def line(self) -> str:
        """One line for people."""
        return (
            f"{self.frames} frames, {self.fps:.1f} fps, {self.dropped} dropped, "
            f"frame age p50 {self.age_ms.p50:.1f} ms, p95 {self.age_ms.p95:.1f} ms"
        )


class Stats:
    """Collects while a loop runs; memory does not grow with the number of frames."""

    def __init__(self) -> None:
        self.stages: dict[Stage, Histogram] = {stage: Histogram() for stage in STAGES}
        self.age = Histogram()
        self.copies = Copies()
        """What the using thread copies; each camera counts its own."""
        self.frames = 0
        self.broken = 0
        self._first_ns = 0
        self._last_ns = 0
        self._last_sequence = -1
        self._camera: Camera | None = None
        self._first: Callable[[], int] = int

    def answered(self, frame: Frame) -> tuple[float, float]:
        """Count an answer to `frame`; give its age (ms) and the answers a second so far."""
        self._last_ns = time.monotonic_ns()
        if not self.frames:
            self._first_ns = frame.captured_ns
        self.frames += 1
        self._last_sequence = frame.sequence
        age_ns = self._last_ns - frame.captured_ns
        self.age.add(age_ns)
        return age_ns / 1e6, self.fps

    @property
    def seconds(self) -> float:
        """From the first frame's capture to the last answer."""
        return (self._last_ns - self._first_ns) / 1e9

    @property
    def fps(self) -> float:
        """Answers a second so far; 0 before the first."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    def follow(self, camera: Camera, first: Callable[[], int]) -> None:
        """Include what `camera` copies and how often it was opened again.

        Args:
            camera: whose frames are answered.
            first: gives the sequence number of the first frame that was captured.
        """
        self._camera, self._first = camera, first

    def summary(self) -> Summary:
        """Sum up."""
        counters = [self.copies, *([self._camera.copies] if self._camera else [])]
        frames = max(self.frames, 1)
        reasons: dict[str, float] = {}
        for counter in counters:
            for (kind, reason), nbytes in tuple(counter.by_reason.items()):
                key = f"{kind}: {reason}"
                reasons[key] = reasons.get(key, 0.0) + nbytes / frames
        produced = self._last_sequence - self._first() + 1 if self.frames else 0
        return Summary(
            self.frames,
            produced,
            produced - self.frames,
            self.broken,
            self._camera.restarts if isinstance(self._camera, Steady) else 0,
            self.seconds,
            self.fps,
            _timing(self.age),
            {stage: _timing(histogram) for stage, histogram in self.stages.items()},
            {kind: sum(c.total(kind) for c in counters) / frames for kind in KINDS},
            reasons,
        )


def table(summary: Summary) -> str:
    """The summary as lines of text, without a final newline."""
    lines = [f"{'':14}{'mean':>9}{'p50':>9}{'p95':>9}{'p99':>9}   ms"]
    rows = {**summary.stages_ms, "frame age": summary.age_ms}
    for name, t in rows.items():
        lines.append(f"{name:14}{t.mean:9.3f}{t.p50:9.3f}{t.p95:9.3f}{t.p99:9.3f}")
    lines.append(
        f"{summary.frames} frames in {summary.seconds:.2f} s, {summary.fps:.1f} fps, "
        f"{summary.dropped} dropped of {summary.produced} produced"
    )
    if summary.broken or summary.restarts:
        lines.append(f"{summary.broken} frames broken, {summary.restarts} restarts of the camera")
    lines.append("bytes copied per frame:")
    lines += [f"  {kind:12}{nbytes:12,.0f}" for kind, nbytes in summary.bytes_per_frame.items()]
    lines += [f"    {why:40}{n:12,.0f}" for why, n in sorted(summary.reasons.items())]
    return "\n".join(lines)


def as_json(summaries: Mapping[tuple[str, str], Summary]) -> str:
    """One line of JSON: `{"summary": [...]}`, an object for each source and model.

    Its keys are the fields of `Summary`, with `source` and `model`.
    """
    return json.dumps(
        {
            "summary": [
                {"source": source, "model": model, **dataclasses.asdict(summary)}
                for (source, model), summary in summaries.items()
            ]
        }
    )


def _timing(histogram: Histogram) -> Timing:
    return Timing(histogram.mean_ms, *(histogram.percentile_ms(p) for p in (50.0, 95.0, 99.0)))
