"""One run of the training loop for a step, whatever its kind."""

import time
from pathlib import Path

from torch import nn

from edgekit.learn.data.open import open_batches
from edgekit.learn.distil.objective import distilling
from edgekit.learn.evaluate import accuracy
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.recipe.steps import Distill
from edgekit.learn.train.lesson import Fitted, Lesson, Point
from edgekit.learn.train.log import Log, read
from edgekit.learn.train.loop import fit
from edgekit.learn.train.objective import Free, Labels, Rules
from edgekit.learn.train.plot import plot
from edgekit.learn.watch import Watch
from edgekit.learn.work import Work


def teach(
    module: nn.Module,
    how: Fit,
    distill: Distill | None,
    work: Work,
    before: nn.Module,
    rules: Rules | None = None,
    task: str = "fit",
    first: int = 0,
) -> Fitted:
    """Train `module`, in place, on the recipe's data.

    Args:
        module: what learns.
        how: the run.
        distill: what teachers have to say; None: the labels alone.
        work: what the steps share.
        before: the network as it was when the step began: the teacher `before`.
        rules: what it is held to.
        task: names the run's files in the step's folder; one name for each run of a step.
        first: the epoch it begins with, see `Lesson`.
    """
    lesson = lesson_of(module, how, distill, work, before, rules, first)
    place = work.place

    def measure(average: nn.Module) -> float:
        return accuracy(average, work.data.validation, work.image, device=place.device)

    log = Log(work.folder, task) if place.leads else None
    told = Told(work.watch, f"{work.folder.name}: {task}", how, log)
    try:
        fitted = fit(module, lesson, place, work.folder / f"{task}.state.pt", told, measure)
    finally:
        if log is not None:
            log.close()
    if log is not None and fitted.rows:
        draw(log, f"{work.recipe.head.name}: {work.folder.name}", lesson.batches.steps)
    return fitted


def lesson_of(
    module: nn.Module,
    how: Fit,
    distill: Distill | None,
    work: Work,
    before: nn.Module,
    rules: Rules | None = None,
    first: int = 0,
) -> Lesson:
    """What a step teaches; arguments as those of `teach`."""
    head, place = work.recipe.head, work.place
    return Lesson(
        batches=open_batches(
            *(work.data.train, head.augment, how.batch, head.seed),
            *(place.rank, place.world, how.accumulate),
        ),
        classes=len(work.data.classes),
        image=head.image,
        how=how,
        seed=head.seed,
        objective=Labels() if distill is None else distilling(distill, work, before, module),
        rules=rules or Free(),
        first=first,
    )


def draw(log: Log, title: str, steps: int) -> Path:
    """Draw a run that is over, beside its log."""
    picture = log.epochs.with_suffix(".svg")
    plot(picture, title, read(log.points), read(log.epochs), steps)
    return picture


class Told:
    """Passes on to a watch and a log how far the loop is."""

    def __init__(self, watch: Watch, task: str, how: Fit, log: Log | None) -> None:
        self._watch, self._task, self._epochs, self._log = watch, task, how.total_epochs, log
        self._batch, self._steps = how.batch, 1
        self._began, self._first, self._loss = time.monotonic(), 0, 0.0

    def begin(self, steps: int, done: int, rows: list[dict[str, float]]) -> None:
        self._steps, self._began, self._first = steps, time.monotonic(), done
        if done:
            self._watch.line(f"{self._task}: goes on from epoch {1 + done / steps:.2f}")
        if self._log is not None:
            self._log.begin(steps, done, rows)

    def step(self, point: Point) -> None:
        self._loss += (point.loss - self._loss) / min(point.done - self._first, 50)
        speed = (point.done - self._first) * self._batch / (time.monotonic() - self._began)
        note = f"loss {self._loss:.3f}, {speed:.0f} images/s"
        self._watch.step(self._task, point.done, self._epochs * self._steps, note)
        if self._log is not None:
            self._log.step(point)

    def epoch(self, row: dict[str, float]) -> None:
        self._watch.line(
            f"{self._task}: epoch {row['epoch']:.0f}/{self._epochs}, loss {row['loss']:.3f}, "
            f"top-1 {row['top1']:.4f}, {row['images_per_s']:.0f} images/s"
        )
        if self._log is not None:
            self._log.epoch(row)
