"""The step `prune` with `method = "channels"`: rank, remove, train on, in one round or several."""

import copy
import json
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import nn

from edgekit.checkpoint import replace_files
from edgekit.errors import CheckpointError, SpecError
from edgekit.learn.bundles import write_some
from edgekit.learn.prune.channels.compact import Compacted
from edgekit.learn.prune.channels.criteria import scores
from edgekit.learn.prune.channels.latency import lower, plan_for, time_beside
from edgekit.learn.prune.channels.target import (
    Candidates,
    candidates,
    flow_of,
    prune_to,
    unit_of,
    weighed,
)
from edgekit.learn.prune.masks import pruned_before
from edgekit.learn.prune.rules import Held
from edgekit.learn.recipe.steps import PruneStep
from edgekit.learn.teach import teach
from edgekit.learn.work import Student, Work
from edgekit.lower.calibrate import from_folder
from edgekit.lower.widths import merged

NEAR = 0.02
"""A measured latency this close to the target is near enough: machines are noisy."""
FAR = 0.08
"""One that is further is refused."""
CANDIDATES = 6
"""Networks that are lowered and timed in a round, at most."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate that was measured."""

    macs: float
    """Left of the MACs of the network that the step began with."""
    ms: float
    before_ms: float
    """Of the network that the step began with, measured in turns with it."""

    @property
    def latency(self) -> float:
        return self.ms / self.before_ms


def prune_channels(step: PruneStep, student: Student, work: Work) -> Student:
    """Take channels out by the step's criterion, and train on; `step.rounds` times.

    Round i of n prunes to target^(i/n): an equal share of what is left, each time. All processes of
    a run do the same; what is measured or drawn is done by the first one.

    Raises:
        SpecError: the network cannot be followed, or the target cannot be reached.
        CheckpointError: the record of an interrupted run is damaged.
        StorageError: the step's folder cannot be written.
    """
    before = copy.deepcopy(student.module).eval()
    unit = unit_of(step)
    whole = weighed(before, work.image, unit)
    module, widths, notes = student.module, student.widths, dict(student.metrics)
    for number in range(1, step.rounds + 1):
        share = number / step.rounds
        found = _candidates(step, module.eval(), work)
        left, tried = (step.macs or step.parameters) ** share, None
        if step.latency:
            tried = _search(step, found, before, whole, step.latency**share, number, work)
            left = tried.macs
        small = prune_to(found, left * whole / found.whole)
        widths = merged(widths, small.widths)
        reached = weighed(small.module, work.image, unit) / whole
        notes |= {f"{unit}_left": reached}
        if tried is not None:
            notes |= {"latency_ms": tried.ms, "latency_before_ms": tried.before_ms}
        work.watch.line(_said(number, step, reached, small, tried))
        zero = pruned_before(replace(student, module=small.module))
        with Held(small.module, zero) as held:
            task = f"round-{number}"
            fitted = teach(small.module, step.fit, step.distill, work, before, held, task)
        module = fitted.module
    return replace(student, module=module, widths=widths, metrics=notes)


def _candidates(step: PruneStep, module: nn.Module, work: Work) -> Candidates:
    """The network as it is now; channels ranked by the first process."""
    flow = flow_of(module, work.image)
    score = work.place.peers.first(lambda: scores(module, flow, step, work))
    return candidates(module, work.image, step, flow, score)


def _said(
    number: int, step: PruneStep, reached: float, small: Compacted, tried: Tried | None
) -> str:
    text = f"round {number} of {step.rounds}: {len(small.removed)} channels less, {reached:.1%} of "
    if tried is None:
        return f"{text}the {'parameters' if step.parameters else 'MACs'} left"
    return (
        f"{text}the MACs and {tried.latency:.1%} of the latency left on {step.target} in "
        f"{step.precision} ({tried.ms:.2f} of {tried.before_ms:.2f} ms)"
    )


def _search(
    step: PruneStep,
    found: Candidates,
    before: nn.Module,
    whole: int,
    wanted: float,
    number: int,
    work: Work,
) -> Tried:
    """The MACs that are to be left for this share of the latency.

    What was measured is written down: an interrupted run goes on with the same network, though no
    two measurements are the same.
    """
    path = work.folder / f"latency-{number}.json"

    def make() -> list[Tried]:
        if path.exists():
            return _read(path)
        every = _bisect(step, found, before, whole, wanted, work)
        text = json.dumps([asdict(each) for each in every], indent=2) + "\n"
        replace_files({path: text.encode()})
        return every

    every = work.place.peers.first(make)
    return min(every, key=lambda tried: abs(tried.latency - wanted))


def _read(path: Path) -> list[Tried]:
    try:
        return [Tried(**each) for each in json.loads(path.read_bytes())]
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path}, what an interrupted run had measured, is damaged ({error}); remove it"
        ) from error


def _bisect(
    step: PruneStep,
    found: Candidates,
    before: nn.Module,
    whole: int,
    wanted: float,
    work: Work,
) -> list[Tried]:
    """Measure candidates until one is near, each between one too slow and one too fast.

    Raises:
        SpecError: none came near.
    """
    plan = plan_for(step.target, step.precision)
    images = from_folder(write_some(work.data.train, work.folder / "calibration"), work.image)
    classes, folder = len(work.data.classes), work.folder / "candidates"
    every: list[Tried] = []
    low, high, left = 0.0, found.whole / whole, min(wanted, 0.99 * found.whole / whole)
    with closing(lower(before, work.image, classes, plan, images, folder / "before")) as first:
        while len(every) < CANDIDATES and high - low > NEAR / 2:
            try:
                small = prune_to(found, left * whole / found.whole).module
            except SpecError:  # so few MACs cannot be reached
                low, left = left, (left + high) / 2
                continue
            opened = lower(small, work.image, classes, plan, images, folder / "candidate")
            with closing(opened) as session:
                before_ms, ms = time_beside((first, session), images.inputs[0])
            every.append(Tried(left, ms, before_ms))
            work.watch.line(
                f"{left:.1%} of the MACs take {every[-1].latency:.1%} of the time "
                f"({ms:.2f} of {before_ms:.2f} ms)"
            )
            off = every[-1].latency - wanted
            if abs(off) <= NEAR:
                break
            low, high = (low, left) if off > 0 else (left, high)
            left = min(max(left - off, low + (high - low) / 4), high - (high - low) / 4)
    if not every or min(abs(tried.latency - wanted) for tried in every) > FAR:
        reached = ", ".join(f"{t.macs:.0%} of the MACs: {t.latency:.0%}" for t in every)
        raise SpecError(
            f"step '{step.name}': {wanted:.0%} of the latency on {step.target} was not reached; "
            f"measured was {reached or 'nothing'}; ask for another share, lower 'least' or "
            "'round_to', or give 'macs'"
        )
    return every
