"""The first check of a training set-up: can the network learn one batch by heart?

If it cannot, then no amount of training helps: the labels do not belong to the images, the rate is
hopeless, the loss or the network is broken. A network that can may still not generalise.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from edgekit.learn.data.batch import Batch, Batches
from edgekit.learn.train.lesson import Lesson, Point
from edgekit.learn.train.loop import fit
from edgekit.learn.train.place import Place
from edgekit.learn.train.step import normalise
from edgekit.learn.watch import Watch

STEPS = 200
MOST = 64
"""Images that are learned by heart."""
BY_HEART = 0.1
"""The loss has to fall below this share of its start."""


@dataclass(frozen=True, slots=True)
class ByHeart:
    """What came of it."""

    images: int
    steps: int
    start: float
    """Loss of the first step."""
    end: float
    """Loss of the last step."""
    top1: float
    """Of the images, in eval mode, in [0, 1]."""

    @property
    def passed(self) -> bool:
        return self.end < BY_HEART * self.start and self.top1 == 1

    def meaning(self) -> str:
        """What it says about the set-up, for people."""
        told = (
            f"{self.images} images, {self.steps} steps: loss {self.start:.3f} -> {self.end:.3f}, "
            f"top-1 {self.top1:.3f}"
        )
        if self.passed:
            return f"{told}: learned by heart; network, loss, labels and optimiser work together"
        if self.end < BY_HEART * self.start:
            return (
                f"{told}: learned in training mode, but the answers in eval mode are others; "
                "see its batch norm and dropout, or whether two classes hold the same images"
            )
        return (
            f"{told}: NOT learned by heart, so training cannot work; see whether the learning rate "
            "is far off (--find-learning-rate), weights are frozen, the images carry the right "
            "labels and are not all alike, and the network's output is (N, classes) logits without "
            "a softmax"
        )


def learn_by_heart(
    module: nn.Module, lesson: Lesson, place: Place, folder: Path, watch: Watch
) -> ByHeart:
    """Train `module`, in place, on one batch alone, by the loop that trains everything.

    Args:
        module: what learns; its dropout is taken away.
        lesson: its first batch counts, which must not be augmented; smoothing, weight decay and
            averaging are left out.
        place: the device.
        folder: for the loop's state; what was written is removed again.
        watch: told how far it is.

    Raises:
        SpecError: the run went astray.
    """
    how = lesson.how
    size = (lesson.image.height, lesson.image.width)
    batch = _first(next(iter(lesson.batches.epoch(0, size))))
    plain = replace(
        how,
        epochs=1,
        stages=(),
        batch=len(batch.targets),
        reference_batch=0,
        learning_rate=how.peak_rate,
        weight_decay=0.0,
        warmup_epochs=0.1,
        smoothing=0.0,
        average_decay=0.0,
        accumulate=1,
        patience=0,
        compile=False,
    )
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    again = Again(batch, lesson.batches)
    told = _Told(watch)
    inputs = normalise(batch.pixels.to(place.device), lesson.image)

    def measure(learner: nn.Module) -> float:
        with torch.inference_mode():
            found = learner.eval()(inputs).argmax(1).cpu()
        return float((found == batch.targets).float().mean())

    state = folder / "overfit.state.pt"
    state.unlink(missing_ok=True)
    try:
        fitted = fit(module, replace(lesson, batches=again, how=plain), place, state, told, measure)
    finally:
        state.unlink(missing_ok=True)
    return ByHeart(len(batch.targets), STEPS, told.start, told.end, fitted.rows[-1]["top1"])


def _first(batch: Batch) -> Batch:
    return Batch(batch.pixels[:MOST], batch.targets[:MOST], batch.index[:MOST], batch.view[:MOST])


class Again:
    """One batch, over and over."""

    def __init__(self, batch: Batch, whole: Batches) -> None:
        self._batch, self._whole = batch, whole

    @property
    def steps(self) -> int:
        return STEPS

    @property
    def images(self) -> int:
        return len(self._batch.targets)

    @property
    def fingerprint(self) -> str:
        return self._whole.fingerprint

    def epoch(self, number: int, size: tuple[int, int], start: int = 0) -> Iterator[Batch]:
        for _ in range(start, STEPS):
            yield self._batch


class _Told:
    def __init__(self, watch: Watch) -> None:
        self._watch, self.start, self.end = watch, 0.0, 0.0

    def begin(self, steps: int, done: int, rows: list[dict[str, float]]) -> None:
        """Nothing to prepare."""

    def step(self, point: Point) -> None:
        self.start, self.end = (point.loss if point.done == 1 else self.start), point.loss
        self._watch.step("one batch by heart", point.done, STEPS, f"loss {point.loss:.3f}")

    def epoch(self, row: dict[str, float]) -> None:
        """Told at the end."""
