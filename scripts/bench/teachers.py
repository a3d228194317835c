"""How good teachers are on small images, and how fast: what decides which one a recipe asks.

    python scripts/bench/teachers.py DATA [--images N] [-o build/teachers]

DATA holds `weights/` and `images/tiny_imagenet_50.zip`. Each teacher is asked, as a recipe asks it,
about the 2,500 validation images of 64 x 64 pixels, resized to what it takes; of its outputs the 50
classes are compared. Prints a table; top-1 with its 95 % interval. Images a second are of one core,
by the processor time that was used, resizing included. The adapted teacher is asked, too, where
recipes/teacher-mobilenet_v2-tiny50.toml was run into `-o`.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.device.measure.interval import wilson
from edgekit.learn.data import source
from edgekit.learn.data.source import Data
from edgekit.learn.distil.choice import Chosen, outputs_of
from edgekit.learn.distil.objective import mean_answer
from edgekit.learn.distil.teachers import find
from edgekit.learn.distil.tutor import resized
from edgekit.learn.recipe.data import DataSpec
from edgekit.learn.recipe.read import read
from edgekit.learn.recipe.recipe import Recipe
from edgekit.learn.recipe.steps import Teacher
from edgekit.learn.train.place import HERE
from edgekit.learn.work import Work

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "teacher-mobilenet_v2-tiny50.toml"
SIZES = (64, 96, 128, 160, 224)
AT_ONCE = 50


class Quiet:
    """A watch that says nothing."""

    def step(self, task: str, done: int, total: int, note: str = "") -> None: ...

    def line(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Row:
    """A teacher that was asked."""

    name: str
    logits: Tensor
    """(images, classes)"""
    right: int
    images_per_s: float


def teachers(weights: Path, adapted: Path) -> Iterator[tuple[str, Teacher]]:
    """For people, and for a recipe."""
    edge = weights / "teachers" / "mobilenet_edgetpu_1.0_224_uint8.tflite"
    yield "MobileNet EdgeTPU 1.0, uint8 `.tflite`, 224", Teacher(str(edge), outputs="imagenet")
    ours = weights / "mobilenet_v2_imagenet.safetensors"
    for size in SIZES:
        asked = Teacher(str(ours), model="mobilenet_v2", outputs="imagenet", size=size)
        yield f"MobileNetV2 1.0, {size}", asked
    for size in (96, 160):
        asked = Teacher(
            str(ours), model="mobilenet_v2", outputs="imagenet", size=size, precision="bf16"
        )
        yield f"MobileNetV2 1.0, {size}, bf16", asked
    small = weights / "squeezenet1_1_imagenet.safetensors"
    asked = Teacher(str(small), model="squeezenet1_1", outputs="imagenet", size=160)
    yield "SqueezeNet 1.1, 160", asked
    if adapted.exists():
        yield "MobileNetV2 1.0, adapted, its own size", Teacher(str(adapted))
        yield "the same, bf16", Teacher(str(adapted), precision="bf16")


def ask(name: str, teacher: Teacher, work: Work, pixels: Tensor, targets: np.ndarray) -> Row:
    """Ask a teacher about all images."""
    with closing(find(teacher, work, nn.Identity())) as tutor:
        outputs = outputs_of(work.data.classes, tutor, teacher.outputs)
        chosen = Chosen(tutor, outputs, resized(pixels[:AT_ONCE], tutor.size))
        began = time.process_time()
        logits = torch.cat(
            [chosen.logits(resized(some, tutor.size)) for some in pixels.split(AT_ONCE)]
        )
        seconds = time.process_time() - began
    return Row(name, logits, right(logits, targets), len(pixels) / seconds)


def right(logits: Tensor, targets: np.ndarray) -> int:
    """How many of the largest are right."""
    return int(np.count_nonzero(logits.argmax(1).numpy() == targets))


def line(row: Row) -> str:
    """A row of the table."""
    images = len(row.logits)
    low, high = wilson(row.right / images, images)
    speed = f"{row.images_per_s:.0f}" if row.images_per_s else ""
    share = f"{row.right / images:.1%} ({low:.1%} to {high:.1%})"
    return f"| {row.name} | {share} | {speed} |"


def together(rows: list[Row], targets: np.ndarray) -> Iterator[Row]:
    """The best network in torch beside the first row, as two teachers of one weight."""
    first, best = rows[0], max(rows[1:], key=lambda row: row.right)
    logits = mean_answer([first.logits, best.logits], [1, 1], temperature=1).log()
    yield Row(f"the first and: {best.name}", logits, right(logits, targets), 0.0)


def main() -> int:
    """Ask, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=2500)
    parser.add_argument("-o", "--out", type=Path, default=Path("build/teachers"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    recipe: Recipe = read(RECIPE)
    images = source.read(
        DataSpec(given.data / "images" / "tiny_imagenet_50.zip", limit=50),
        recipe.classes,
    )
    work = Work(recipe, images, HERE, Quiet(), given.out)
    pixels, targets = sample(images, given.images)
    adapted = given.out / "1-train" / f"{recipe.head.name}.safetensors"
    print("| teacher, pixels a side | top-1 | images/s |\n|---|---|---|", flush=True)
    rows = []
    for name, teacher in teachers(given.data / "weights", adapted):
        rows.append(ask(name, teacher, work, pixels, targets))
        print(line(rows[-1]), flush=True)
    for row in together(rows, targets):
        print(line(row))
    return 0


def sample(data: Data, count: int) -> tuple[Tensor, np.ndarray]:
    """`count` validation images, evenly over the classes: (n, H, W, 3) uint8 and (n,)."""
    pixels, targets = np.asarray(data.validation.pixels), data.validation.targets
    kept = np.arange(0, len(targets), max(len(targets) // count, 1))
    return torch.from_numpy(pixels[kept]), targets[kept]


if __name__ == "__main__":
    sys.exit(main())
