"""The training loop: one function, read from top to bottom."""

import copy
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekit.errors import SpecError
from edgekit.learn.data.batch import Batch, Batches
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.train import state as states
from edgekit.learn.train.objective import Objective, Part, Rules
from edgekit.learn.train.optimise import follow, optimiser, rate
from edgekit.learn.train.place import Place
from edgekit.learn.train.state import State
from edgekit.learn.train.stride import fast_strides
from edgekit.spec import ImageSpec

SAVE_S = 60.0
"""An interrupted run has lost at most about so much."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learned, and how."""

    batches: Batches
    classes: int
    image: ImageSpec
    """Its mean and deviation normalise; its size is that of an epoch without a size of its own."""
    how: Fit
    seed: int
    """Of dropout and drop-path. Order and views have the batches' own."""
    objective: Objective
    rules: Rules


class Listener(Protocol):
    """Told how far a run is."""

    def step(self, epoch: int, step: int, steps: int, loss: float, rate: float) -> None:
        """Step `step` (from 1) of `steps` of epoch `epoch` (from 1) is done."""

    def epoch(self, row: dict[str, float]) -> None:
        """An epoch is done: `epoch`, `loss`, `rate`, `top1`, `seconds`, `images_per_s`."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What training leaves."""

    module: nn.Module
    """The moving average, or the best one where training may stop early; in eval mode, on the
    CPU."""
    rows: tuple[dict[str, float], ...]


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
        path: written each epoch and each minute; an interrupted run goes on from there, to the
            same weights that it would have come to (on CPUs; with the same number of threads).
        listener: told after each step and each epoch.
        measure: top-1 of a network, in [0, 1]; asked after each epoch.

    Raises:
        SpecError: the loss is no longer a number.
        CheckpointError: `path` is there, but is damaged or of another network.
        StorageError: `path` cannot be written.
    """
    how, batches = lesson.how, lesson.batches
    layout = torch.channels_last if how.channels_last else torch.contiguous_format
    module.to(place.device, memory_format=layout)  # type: ignore[call-overload]
    now = State(
        module,
        copy.deepcopy(module) if how.average_decay else module,
        optimiser(module, how),
        torch.amp.GradScaler(place.device.type, enabled=how.precision == "fp16"),
        copy.deepcopy(module) if how.patience else None,
    )
    states.resume(path, now)
    saved = time.monotonic()
    sizes = [stage.size for stage in how.sizes for _ in range(stage.epochs)]
    while now.epoch < how.total_epochs and not _is_over(now, how):
        began, first = time.monotonic(), now.step
        module.train()
        lesson.rules.begin_epoch(module, now.epoch, how.total_epochs)
        side = sizes[now.epoch]
        size = (side, side) if side else (lesson.image.height, lesson.image.width)
        for batch in batches.epoch(now.epoch, size, now.step):
            done = now.epoch * batches.steps + now.step
            for group in now.optimiser.param_groups:
                group["lr"] = rate(done / batches.steps, how)
            torch.manual_seed(hash((lesson.seed, done, place.rank)))  # dropout
            loss = _backward(now, batch, lesson, place)
            if not math.isfinite(loss):
                raise SpecError(
                    f"the loss is {loss} in step {now.step + 1} of epoch {now.epoch + 1}: training "
                    f"went astray; lower learning_rate (it is {how.peak_rate}) or lengthen the "
                    "warm-up"
                )
            _update(now, how)
            lesson.rules.after_step(module)
            if now.average is not module:
                follow(now.average, module, min(how.average_decay, (1 + done) / (10 + done)))
            now.step, now.total = now.step + 1, now.total + loss
            listener.step(now.epoch + 1, now.step, batches.steps, now.total / now.step, group["lr"])
            if place.leads and now.step < batches.steps and time.monotonic() - saved > SAVE_S:
                states.save(path, now)
                saved = time.monotonic()
        seconds = time.monotonic() - began
        top1 = measure(now.average)
        now.rows.append(
            {
                "epoch": now.epoch + 1,
                "loss": now.total / now.step,
                "rate": group["lr"],
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
            states.save(path, now)
            saved = time.monotonic()
        listener.epoch(now.rows[-1])
    kept = now.average if now.best is None else now.best
    return Fitted(kept.eval().to("cpu"), tuple(now.rows))


def _is_over(now: State, how: Fit) -> bool:
    """Whether `patience` epochs have brought nothing better."""
    return now.best is not None and 0 < now.best_epoch <= now.epoch - how.patience


def _backward(now: State, batch: Batch, lesson: Lesson, place: Place) -> float:
    """Add the batch's gradient, a part after the other; returns its loss."""
    total = 0.0
    for part in _parts(batch, lesson, place):
        with fast_strides(now.module), _autocast(lesson.how, place):
            loss = lesson.objective.loss(now.module, part)
        penalty = lesson.rules.penalty(now.module)
        loss = (loss if penalty is None else loss + penalty) / lesson.how.accumulate
        now.scaler.scale(loss).backward()
        total += loss.item()
    return total


def _parts(batch: Batch, lesson: Lesson, place: Place) -> list[Part]:
    how = lesson.how
    inputs = normalise(batch.pixels.to(place.device, non_blocking=True), lesson.image)
    answers = F.one_hot(batch.targets.to(place.device), lesson.classes).float()
    answers = answers * (1 - how.smoothing) + how.smoothing / lesson.classes
    if batch.mixing is not None:
        inputs, answers = batch.mixing.inputs(inputs), batch.mixing.answers(answers)
    tensors = (inputs, answers, batch.index, batch.view)
    return [
        Part(*chunks)
        for chunks in zip(*(tensor.chunk(how.accumulate) for tensor in tensors), strict=True)
    ]


def _autocast(how: Fit, place: Place) -> AbstractContextManager[None]:
    dtype = {"fp16": torch.float16}.get(how.precision, torch.bfloat16)
    return torch.autocast(place.device.type, dtype, enabled=how.precision != "fp32")


def _update(now: State, how: Fit) -> None:
    """One step of the optimiser."""
    if how.clip_norm:
        now.scaler.unscale_(now.optimiser)
        nn.utils.clip_grad_norm_(now.module.parameters(), how.clip_norm)
    now.scaler.step(now.optimiser)
    now.scaler.update()
    now.optimiser.zero_grad(set_to_none=True)


def normalise(pixels: Tensor, image: ImageSpec) -> Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) float32, `(x / 255 - mean) / std`, channels last."""
    mean, std = (
        torch.tensor(value, device=pixels.device).view(1, 3, 1, 1)
        for value in (image.mean, image.std)
    )
    planes = pixels.permute(0, 3, 1, 2)  # the memory stays: channels last
    return (planes.float() / 255 - mean) / std
