"""The learning-rate range test (Smith, 2017, section 3.3): one sweep, from too small to too large.

A copy of the network learns while the rate grows exponentially; the loss falls fastest where the
rate is good, and rises where it is too large. The network itself is not changed.
"""

import copy
import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from edgekit.checkpoint import replace_files
from edgekit.errors import SpecError
from edgekit.learn.data.batch import Batch
from edgekit.learn.train.fast import prepared
from edgekit.learn.train.lesson import Lesson
from edgekit.learn.train.objective import beside
from edgekit.learn.train.optimise import optimiser, set_rate
from edgekit.learn.train.place import Place
from edgekit.learn.train.state import State
from edgekit.learn.train.step import backward, clip, reseed, update
from edgekit.learn.train.sync import Learner
from edgekit.learn.watch import Watch

LOWEST, HIGHEST = 1e-6, 10.0
STEPS = 120
SMOOTH = 0.9
"""Decay of the moving average of the losses."""
WORSE = 3.0
"""The sweep ends where the smoothed loss is so many times its best."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep found."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    """Smoothed."""
    suggestion: float
    """A tenth of the rate with the lowest loss, or the rate at which the loss had fallen half way,
    if that is lower: below the edge, where a whole run is stable."""


def find_rate(module: nn.Module, lesson: Lesson, place: Place, watch: Watch) -> Sweep:
    """Sweep the learning rate on a copy of `module`.

    Raises:
        SpecError: the loss was never a number, or never fell.
    """
    how = replace(lesson.how, compile=False)
    lesson = replace(lesson, how=how)
    learner = copy.deepcopy(module).train().to(place.device)
    helper = beside(lesson.objective).to(place.device)
    weights = optimiser(nn.ModuleList((learner, helper)), how)
    scaler = torch.amp.GradScaler(place.device.type, enabled=False)
    now = State(learner, learner, weights, scaler, beside=helper)
    rates: list[float] = []
    losses: list[float] = []
    mean = 0.0
    shared = Learner(learner, lesson.objective, place)
    with prepared(learner, how, place):
        lesson.rules.begin_epoch(learner, 0, max(how.total_epochs, 1))
        for step, batch in enumerate(_batches(lesson)):
            rate = LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1))
            set_rate(now.optimiser, rate)
            reseed(lesson.seed, step, place.rank)
            loss = backward(now, batch, lesson, shared, place).item()
            if not math.isfinite(loss) or not bool(torch.isfinite(clip(now, how))):
                break
            update(now)
            lesson.rules.after_step(learner)
            mean = SMOOTH * mean + (1 - SMOOTH) * loss
            rates.append(rate)
            losses.append(mean / (1 - SMOOTH ** (step + 1)))
            watch.step("learning rate", step + 1, STEPS, f"{rate:.2g}: loss {losses[-1]:.3f}")
            if step > STEPS // 10 and losses[-1] > WORSE * min(losses):
                break
    return Sweep(tuple(rates), tuple(losses), _suggestion(rates, losses))


def _suggestion(rates: list[float], losses: list[float]) -> float:
    best = min(range(len(losses)), key=losses.__getitem__, default=0)
    if not best or losses[best] > 0.98 * losses[0]:
        raise SpecError(
            "no learning rate from "
            f"{LOWEST:g} to {HIGHEST:g} lowered the loss; see with --overfit-one-batch whether "
            "this network can learn this data at all"
        )
    half = (losses[0] + losses[best]) / 2
    halfway = next(n for n, loss in enumerate(losses) if loss <= half)
    return min(rates[best] / 10, rates[halfway])


def _batches(lesson: Lesson) -> Iterator[Batch]:
    """As many as the sweep has steps, from as many epochs as that takes."""
    side = lesson.how.sizes[0].size
    size = (side, side) if side else (lesson.image.height, lesson.image.width)
    given = 0
    for epoch in range(-(-STEPS // lesson.batches.steps)):
        for batch in lesson.batches.epoch(epoch, size):
            if given == STEPS:
                return
            given += 1
            yield batch


def write(sweep: Sweep, folder: Path) -> tuple[Path, Path]:
    """Write `learning-rate.csv` and `.svg`; returns both. Raises StorageError."""
    from matplotlib.figure import Figure

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("rate", "loss"))
    writer.writerows(zip(sweep.rates, sweep.losses, strict=True))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.semilogx(sweep.rates, sweep.losses)
    axes.axvline(sweep.suggestion, color="tab:orange", label=f"suggested: {sweep.suggestion:.2g}")
    axes.set(xlabel="learning rate", ylabel="loss, smoothed", ylim=(None, 1.5 * sweep.losses[0]))
    axes.legend()
    axes.grid(alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="svg", metadata={"Date": None})
    table, drawn = folder / "learning-rate.csv", folder / "learning-rate.svg"
    replace_files({table: text.getvalue().encode(), drawn: picture.getvalue()})
    return table, drawn
