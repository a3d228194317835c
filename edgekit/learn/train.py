"""The training loop: one function, read from top to bottom."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekit.errors import SpecError
from edgekit.learn import state
from edgekit.learn.recipe import Schedule
from edgekit.learn.state import State
from edgekit.learn.stride import fast_strides
from edgekit.learn.views import Views, render
from edgekit.spec import ImageSpec


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learned: views of images, and for each view the answer wanted.

    `pixels` (N, H, W, 3) uint8. `answers` (N, K, classes) float: probabilities at `temperature`.
    """

    pixels: np.ndarray
    views: Views
    answers: np.ndarray
    temperature: float
    image: ImageSpec


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: `epoch` counts from 1, `loss` is its mean so far."""

    epoch: int
    step: int
    steps: int
    loss: float

    @property
    def ends_epoch(self) -> bool:
        return self.step == self.steps


def train(
    module: nn.Module,
    lesson: Lesson,
    schedule: Schedule,
    seed: int,
    path: Path,
    watch: Callable[[Progress, nn.Module], None],
) -> nn.Module:
    """Train `module` in place; returns the moving average of its weights.

    Loss: cross entropy with soft targets, T^2 * H(answers, softmax(logits / T)); T^2 keeps the
    gradient's size (Hinton et al., 2015, section 2.1). Convolutions run in bfloat16.

    Args:
        module: (N, 3, H, W) normalised -> (N, classes) logits.
        lesson: images and answers; only read.
        schedule: batch, rates, epochs and image sizes.
        seed: of order and dropout. On one machine, the same seed gives the same weights, also
            when a run was interrupted.
        path: written after each epoch; an interrupted run goes on from there.
        watch: called after each step with the moving average.

    Raises:
        SpecError: the loss is no longer a number.
        CheckpointError: `path` is there, but is damaged or of another network.
        StorageError: `path` cannot be written.
    """
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(_groups(module, schedule), lr=schedule.learning_rate)
    now = State(module, copy.deepcopy(module), optimiser)
    steps = math.ceil(len(lesson.pixels) / schedule.batch)
    sizes = [stage.size for stage in schedule.stages for _ in range(stage.epochs)]
    for epoch in range(state.resume(path, now), schedule.epochs):
        torch.manual_seed(seed + epoch)  # dropout
        total = 0.0
        for step, (pixels, answer) in enumerate(_batches(lesson, steps, sizes[epoch], seed, epoch)):
            done = epoch * steps + step
            for group in optimiser.param_groups:
                group["lr"] = rate(done / steps, schedule)
            module.train()
            with fast_strides(module), torch.autocast("cpu", torch.bfloat16):
                logits = module(to_planes(pixels, lesson.image))
            loss = F.cross_entropy(logits.float() / lesson.temperature, answer)
            if not math.isfinite(loss.item()):
                raise SpecError(
                    f"the loss is {loss.item()} in epoch {epoch + 1}: training went astray; "
                    f"lower learning_rate (it is {schedule.learning_rate}) or lengthen the warm-up"
                )
            optimiser.zero_grad(set_to_none=True)
            (loss * lesson.temperature**2).backward()
            nn.utils.clip_grad_norm_(module.parameters(), 5.0)
            optimiser.step()
            follow(now.average, module, min(schedule.average_decay, (1 + done) / (10 + done)))
            total += loss.item()
            if step + 1 == steps:
                state.save(path, now, epoch + 1)
            watch(Progress(epoch + 1, step + 1, steps, total / (step + 1)), now.average)
    return now.average.eval()


def _batches(
    lesson: Lesson, steps: int, size: int, seed: int, epoch: int
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """One epoch in random order: pixels (B, size, size, 3) uint8, answers (B, classes) float32.

    Image i takes view (i + epoch) mod K.
    """
    order = np.random.default_rng((seed, epoch)).permutation(len(lesson.pixels))
    for index in np.array_split(order, steps):
        view = (index + epoch) % lesson.answers.shape[1]
        answer = torch.from_numpy(lesson.answers[index, view]).float()
        yield render(lesson.pixels, lesson.views, index, view, size), answer


def rate(epoch: float, schedule: Schedule) -> float:
    """Learning rate at a moment in epochs: linear warm-up, then a cosine down to zero."""
    if epoch < schedule.warmup_epochs:
        return schedule.learning_rate * epoch / schedule.warmup_epochs
    done = (epoch - schedule.warmup_epochs) / (schedule.epochs - schedule.warmup_epochs)
    return schedule.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def to_planes(pixels: np.ndarray, image: ImageSpec) -> Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) float32, `(x / 255 - mean) / std`, channels last."""
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (image.mean, image.std))
    planes = torch.from_numpy(pixels).permute(0, 3, 1, 2)  # the memory stays: channels last
    return (planes.float() / 255 - mean) / std


@torch.no_grad()
def follow(average: nn.Module, module: nn.Module, decay: float) -> None:
    """In place: average <- decay * average + (1 - decay) * module, with batch norm's statistics."""
    for kept, new in zip(average.state_dict().values(), module.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def _groups(module: nn.Module, schedule: Schedule) -> list[dict[str, object]]:
    """Weight decay for matrices and filters; none for biases and batch norm."""
    parameters = list(module.parameters())
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
