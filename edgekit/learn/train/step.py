"""One step: a batch becomes a gradient, part after part, and the optimiser changes the weights."""

from contextlib import AbstractContextManager
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekit.learn.data.batch import Batch
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.train.lesson import Lesson
from edgekit.learn.train.objective import Part
from edgekit.learn.train.place import Place
from edgekit.learn.train.state import State
from edgekit.learn.train.sync import Learner
from edgekit.spec import ImageSpec


def reseed(seed: int, done: int, rank: int) -> None:
    """Let dropout and drop-path be a function of the run's seed, the step and the process."""
    mixed = np.random.SeedSequence((seed, done, rank)).generate_state(1, np.uint64)
    torch.manual_seed(int(mixed[0]))


def backward(now: State, batch: Batch, lesson: Lesson, learner: Learner, place: Place) -> Tensor:
    """Add the batch's gradient, a part after the other; returns its loss, on the run's device.

    Both are means over all processes.
    """
    losses = []
    for n, part in enumerate(parts(batch, lesson, place), 1):
        with learner.gathering(last=n == lesson.how.accumulate):
            with autocast(lesson.how, place):
                loss = learner.loss(part)
            penalty = lesson.rules.penalty(now.module)
            loss = (loss if penalty is None else loss + penalty) / lesson.how.accumulate
            now.scaler.scale(loss).backward()
        losses.append(loss.detach())
    learner.check()
    return learner.mean(losses[0] if len(losses) == 1 else torch.stack(losses).sum())


def clip(now: State, how: Fit) -> Tensor:
    """Norm of the gradient, before it is clipped; the loss's scale is taken off it first."""
    now.scaler.unscale_(now.optimiser)
    weights = [p for group in now.optimiser.param_groups for p in group["params"]]
    norm = nn.utils.get_total_norm([p.grad for p in weights if p.grad is not None])
    if how.clip_norm:
        nn.utils.clip_grads_with_norm_(weights, how.clip_norm, norm)
    return norm


def update(now: State) -> None:
    """Change the weights; a gradient that overflowed in fp16 is left out, and its scale halved."""
    now.scaler.step(now.optimiser)
    now.scaler.update()
    now.optimiser.zero_grad(set_to_none=True)


def parts(batch: Batch, lesson: Lesson, place: Place) -> list[Part]:
    """The batch on the run's device, normalised, its answers smoothed and mixed; in equal parts."""
    how = lesson.how
    pixels = batch.pixels.pin_memory() if place.device.type == "cuda" else batch.pixels
    inputs = normalise(pixels.to(place.device, non_blocking=True), lesson.image)
    answers = F.one_hot(batch.targets, lesson.classes).float()
    answers = answers.mul_(1 - how.smoothing).add_(how.smoothing / lesson.classes)
    answers = answers.to(place.device, non_blocking=True)
    if batch.mixing is not None:
        inputs, answers = batch.mixing.inputs(inputs), batch.mixing.answers(answers)
    tensors = (inputs, answers, batch.index, batch.view)
    return [
        Part(*chunks)
        for chunks in zip(*(tensor.chunk(how.accumulate) for tensor in tensors), strict=True)
    ]


def autocast(how: Fit, place: Place) -> AbstractContextManager[None]:
    """Convolutions and matrix products in the precision that the run asks for."""
    dtype = {"fp16": torch.float16}.get(how.precision, torch.bfloat16)
    return torch.autocast(place.device.type, dtype, enabled=how.precision != "fp32")


def normalise(pixels: Tensor, image: ImageSpec) -> Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) float32, `(x / 255 - mean) / std`, channels last."""
    mean, std = (planes_of(value, pixels.device) for value in (image.mean, image.std))
    planes = pixels.permute(0, 3, 1, 2).float()  # the order in memory stays: channels last
    return planes.div_(255).sub_(mean).div_(std)


@cache
def planes_of(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(1, 3, 1, 1), made once: to put it on a GPU waits for the GPU."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device).view(1, -1, 1, 1)
