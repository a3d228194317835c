"""Steps per second of edgekit's training loop beside a plain PyTorch loop.

    python -m scripts.bench.training [--threads 2] [--precision fp32|bf16] [--steps 6] [--rounds 3]

Same networks, images (made up, 64x64, in memory), random crops and mirror images, batch, precision
and optimiser. Two plain loops: `tutorial` is written as PyTorch's tutorials write it, with a
`Dataset` that augments an image at a time, a `DataLoader`, and `loss.item()`; `tuned` adds channels
last and a worker process. They take turns, so that what else the machine does meets all of them;
the median round counts. The first step of a round is not timed.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from edgekit.learn.data.open import open_batches
from edgekit.learn.data.source import Images
from edgekit.learn.recipe.data import Augment
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.train.lesson import Lesson, Point
from edgekit.learn.train.loop import fit
from edgekit.learn.train.objective import Free, Labels
from edgekit.learn.train.place import HERE
from edgekit.plugins import architecture
from edgekit.spec import ImageSpec
from scripts.bench._common import heading

SIDE, CLASSES, BATCH = 64, 50, 128
AUGMENT = Augment(min_area=0.35, mirror=0.5)
IMAGE = ImageSpec(SIDE, SIDE, crop_fraction=1.0)


@dataclass(frozen=True)
class Case:
    """A network to train."""

    title: str
    architecture: str
    arguments: Mapping[str, float]


CASES = (
    Case("MobileNetV2 x0.5, stem stride 2", "mobilenet_v2", {"width_mult": 0.5, "stem_stride": 2}),
    Case("MobileNetV2 x0.5, stem stride 1", "mobilenet_v2", {"width_mult": 0.5, "stem_stride": 1}),
    Case("ShuffleNetV2 x0.5, stem stride 1", "shufflenet_v2_x0_5", {"stem_stride": 1}),
)


@dataclass(frozen=True)
class Task:
    """One round of one loop."""

    module: nn.Module
    images: Images
    steps: int
    precision: str


class Clock:
    """Steps per second, from the end of the first step to the end of the last."""

    def __init__(self) -> None:
        """No step is done yet."""
        self._ends: list[float] = []

    def tick(self) -> None:
        """A step is done."""
        self._ends.append(time.perf_counter())

    @property
    def rate(self) -> float:
        """Steps a second."""
        return (len(self._ends) - 1) / (self._ends[-1] - self._ends[0])


class Listener:
    """Ticks a clock."""

    def __init__(self, clock: Clock) -> None:
        """Tell `clock`."""
        self._clock = clock

    def begin(self, steps: int, done: int, rows: list[dict[str, float]]) -> None:
        """Nothing to prepare."""

    def step(self, point: Point) -> None:
        """A step is done."""
        self._clock.tick()

    def epoch(self, row: dict[str, float]) -> None:
        """Not timed."""


def ours(task: Task) -> float:
    """Steps per second of `edgekit.learn.train.loop.fit`."""
    how = Fit(1e-3, epochs=1, batch=BATCH, weight_decay=0.01, precision=task.precision)  # type: ignore[arg-type]
    batches = open_batches(task.images, AUGMENT, BATCH, seed=0)
    clock = Clock()
    lesson = Lesson(batches, CLASSES, IMAGE, how, 0, Labels(), Free())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fit.state.pt"
        fit(task.module, lesson, HERE, path, Listener(clock), lambda module: 0.0)
    return clock.rate


class Augmented(Dataset[tuple[torch.Tensor, int]]):
    """An image at a time, cropped, scaled, mirrored and normalised."""

    def __init__(self, images: Images) -> None:
        """Take from `images`."""
        self._images = images
        self._mean = torch.tensor(IMAGE.mean).view(3, 1, 1)
        self._std = torch.tensor(IMAGE.std).view(3, 1, 1)

    def __len__(self) -> int:
        """How many images there are."""
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """(3, SIDE, SIDE) float32, and its class."""
        area, ratio, left, top, mirror = torch.rand(5).tolist()
        area = AUGMENT.min_area + area * (1 - AUGMENT.min_area)
        ratio = AUGMENT.max_ratio ** (2 * ratio - 1)
        w = min(round((area * ratio) ** 0.5 * SIDE), SIDE)
        h = min(round((area / ratio) ** 0.5 * SIDE), SIDE)
        x, y = round(left * (SIDE - w)), round(top * (SIDE - h))
        crop = self._images.pixels[index][y : y + h, x : x + w]
        scaled = cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        if mirror < AUGMENT.mirror:
            scaled = np.ascontiguousarray(scaled[:, ::-1])
        planes = torch.from_numpy(scaled).permute(2, 0, 1).contiguous().float() / 255
        return (planes - self._mean) / self._std, int(self._images.targets[index])


def plain(task: Task, tuned: bool) -> float:
    """Steps per second of a loop as PyTorch's tutorials write it."""
    layout = torch.channels_last if tuned else torch.contiguous_format
    model = task.module.to(memory_format=layout)  # type: ignore[call-overload]
    loader = DataLoader(
        Augmented(task.images),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=1 if tuned else 0,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=task.steps)
    clock, running_loss = Clock(), 0.0
    model.train()
    for inputs, labels in loader:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=task.precision == "bf16"):
            outputs = model(inputs.to(memory_format=layout))
            loss = F.cross_entropy(outputs, labels)
        loss.backward()
        optimizer.step()
        schedule.step()
        running_loss += loss.item()
        clock.tick()
    return clock.rate


LOOPS: dict[str, Callable[[Task], float]] = {
    "edgekit": ours,
    "tutorial": lambda task: plain(task, tuned=False),
    "tuned": lambda task: plain(task, tuned=True),
}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rng = np.random.default_rng(0)
    count = BATCH * given.steps
    pixels = rng.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
    images = Images(pixels, rng.integers(0, CLASSES, count), "made up")
    print(f"{heading(f'{given.threads} threads', given.precision)}; batch {BATCH}, {SIDE}x{SIDE}\n")
    print(f"| network | {' | '.join(f'{name}, steps/s' for name in LOOPS)} | edgekit / best |")
    print(f"|---|{'---|' * len(LOOPS)}---|")
    for case in CASES:
        rates: dict[str, list[float]] = {name: [] for name in LOOPS}
        for turn in range(given.rounds):
            for name, loop in LOOPS.items():
                torch.manual_seed(0)
                module = architecture(case.architecture)(num_classes=CLASSES, **case.arguments)
                rates[name].append(loop(Task(module, images, given.steps, given.precision)))
                print(f"{case.title}: round {turn + 1}, {name}", file=sys.stderr)
        median = {name: statistics.median(found) for name, found in rates.items()}
        best = max(median["tutorial"], median["tuned"])
        cells = " | ".join(f"{rate:.2f}" for rate in median.values())
        print(f"| {case.title} | {cells} | **{median['edgekit'] / best:.2f}** |", flush=True)


if __name__ == "__main__":
    main()
