"""The training loop: one function, read from top to bottom."""

import copy
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from torch import nn

from edgekit.errors import SpecError
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.train import state as states
from edgekit.learn.train.diagnose import explain
from edgekit.learn.train.distributed import agree_on_file
from edgekit.learn.train.fast import plain, prepared
from edgekit.learn.train.interrupt import interruptible
from edgekit.learn.train.lesson import Fitted, Lesson, Listener
from edgekit.learn.train.look import AT_ONCE, Look, Unsound, is_finite
from edgekit.learn.train.objective import beside
from edgekit.learn.train.optimise import Average, decay_after, optimiser, rate, set_rate
from edgekit.learn.train.place import Place
from edgekit.learn.train.state import State
from edgekit.learn.train.step import backward, clip, reseed, update
from edgekit.learn.train.sync import Learner, synchronised


def fit(
    module: nn.Module,
    lesson: Lesson,
    place: Place,
    path: Path,
    listener: Listener,
    measure: Callable[[nn.Module], float],
) -> Fitted:
    """Train `module` in place.

    Args:
        module: (N, 3, H, W) normalised -> (N, classes) logits.
        lesson: what is learned; only read.
        place: the device and the process.
        path: written at the beginning, each epoch, each `save_every_s` and when interrupted; an
            interrupted run goes on from there, to the same weights that it would have come to (on
            CPUs; with the same number of threads).
        listener: told after each step and each epoch.
        measure: top-1 of a network, in [0, 1]; asked after each epoch.

    Raises:
        SpecError: the run went astray: says in which step and layer. `path` has the last good
            state. Or a batch cannot be dealt out evenly.
        CheckpointError: `path` is there, but is damaged or of another network.
        StorageError: `path` cannot be written.
    """
    how, batches = lesson.how, lesson.batches
    _check_shares(how, place)
    layout = torch.channels_last if how.channels_last else torch.contiguous_format
    module.to(place.device, memory_format=layout)  # type: ignore[call-overload]
    helper = beside(lesson.objective).to(place.device)
    now = State(
        module,
        copy.deepcopy(module) if how.average_decay else module,
        optimiser(nn.ModuleList((module, helper)), how),
        torch.amp.GradScaler(place.device.type, enabled=how.precision == "fp16"),
        copy.deepcopy(module) if how.patience else None,
        helper,
        epoch=lesson.first,
    )
    if not _resume(path, now, place) and place.leads:
        states.save(path, now)  # also tells at once whether it can be written
    saved = time.monotonic()
    sizes = [stage.size for stage in how.sizes for _ in range(stage.epochs)]
    at_once = 1 if place.device.type == "cpu" else AT_ONCE
    look = Look(now, lesson.classes, at_once, lesson.first * batches.steps)
    listener.begin(batches.steps, now.epoch * batches.steps + now.step, now.rows)
    learner = Learner(module, lesson.objective, place)
    with (
        prepared(module, how, place),
        synchronised(module, place),
        interruptible() as signals,
    ):
        try:
            while now.epoch < how.total_epochs and not _is_over(now, how):
                began, first = time.monotonic(), now.step
                module.train()
                lesson.rules.begin_epoch(module, now.epoch, how.total_epochs)
                average = Average(now.average, module)
                side = sizes[now.epoch]
                size = (side, side) if side else (lesson.image.height, lesson.image.width)
                try:
                    for batch in batches.epoch(now.epoch, size, now.step):
                        with signals.held():
                            done = now.epoch * batches.steps + now.step
                            lr = rate((done + 0.5) / batches.steps, how)  # of the step's middle
                            set_rate(now.optimiser, lr)
                            reseed(lesson.seed, done, place.rank)  # dropout
                            loss = backward(now, batch, lesson, learner, place)
                            norm = clip(now, how)
                            points = look.at(loss, lr, norm, done + 1)
                            for point in points:
                                listener.step(point)
                            update(now)
                            lesson.rules.after_step(module)
                            if now.average is not module:
                                average.follow(decay_after(done, how))
                            now.step += 1
                            due = time.monotonic() - saved > how.save_every_s
                            if place.leads and due and points:  # then all steps were looked at
                                _save(path, now)
                                saved = time.monotonic()
                    for point in look.rest():
                        listener.step(point)
                except Unsound as found:
                    if look.exact:
                        raise SpecError(explain(found, now, batch, lesson, place)) from None
                    _resume(path, now, place)  # and again, until just before that step
                    look = Look(now, lesson.classes, 1, lesson.first * batches.steps)
                    continue
                seconds = time.monotonic() - began
                with plain(now.average):
                    top1 = place.peers.first(partial(measure, now.average))
                with signals.held():
                    now.rows.append(
                        {
                            "epoch": now.epoch + 1,
                            "loss": now.total / now.step,
                            "rate": now.optimiser.param_groups[0]["lr"],
                            "top1": top1,
                            "seconds": seconds,
                            "images_per_s": (now.step - first) * how.batch / seconds,
                        }
                    )
                    if now.best is not None and top1 > now.best_top1:
                        now.best.load_state_dict(now.average.state_dict())
                        now.best_top1, now.best_epoch = top1, now.epoch + 1
                    now.epoch, now.step, now.total = now.epoch + 1, 0, 0.0
                    if place.leads:
                        _save(path, now)
                        saved = time.monotonic()
                    listener.epoch(now.rows[-1])
        except (KeyboardInterrupt, SystemExit):
            if place.leads and not signals.torn:
                with suppress(Unsound):  # then the state that is there is the last good one
                    for point in look.rest():
                        listener.step(point)
                    _save(path, now)
            raise
    kept = now.average if now.best is None else now.best
    return Fitted(kept.eval().to("cpu"), tuple(now.rows))


def _resume(path: Path, now: State, place: Place) -> bool:
    """Go on from `path`, if it is there, for all processes."""
    agree_on_file(place, path)
    return states.resume(path, now)


def _is_over(now: State, how: Fit) -> bool:
    """Whether `patience` epochs have brought nothing better."""
    return now.best is not None and 0 < now.best_epoch <= now.epoch - how.patience


def _save(path: Path, now: State) -> None:
    """Write the state, but for weights that are no numbers: they are seen in the next step."""
    if is_finite(now.module):
        states.save(path, now)


def _check_shares(how: Fit, place: Place) -> None:
    if how.batch % (place.world * how.accumulate):
        raise SpecError(
            f"a batch of {how.batch} cannot be dealt out to {place.world} processes in "
            f"{how.accumulate} parts each; make fit.batch a multiple of "
            f"{place.world * how.accumulate}"
        )
