#!/usr/bin/env python
"""What published weights are worth: ShuffleNet V2 x0.5 fine-tuned, beside the same from scratch.

    python scripts/bench/transfer.py tiny_imagenet_50.zip shufflenet_v2_x0_5_backbone.safetensors

Both runs have the same data, order, schedule and number of steps; they differ in the first weights
of the backbone alone (its last convolution and classifier start at random in both). Top-1 on the
validation images after each epoch, and a table at the end.
"""

import argparse
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from edgekit import checkpoint, plugins
from edgekit.learn import data, views
from edgekit.learn.data import Images
from edgekit.learn.evaluate import accuracy
from edgekit.learn.recipe import Augmentation, Schedule, Stage
from edgekit.learn.train import Lesson, Progress, train
from edgekit.lower.network import fold_batch_norm
from edgekit.spec import ImageSpec

NAME = "shufflenet_v2_x0_5"
IMAGE = ImageSpec(64, 64, crop_fraction=1.0, interpolation="area")
VIEWS = Augmentation(count=4, min_area=0.35, max_ratio=1.33, contrast=0.2, brightness=0.1)
SMOOTHING = 0.1


def main() -> None:
    """Run both, and print the table."""
    parser = argparse.ArgumentParser(description="Fine-tuning against training from scratch.")
    parser.add_argument("data", type=Path, help="a zip with train/<class>/ and val/<class>/")
    parser.add_argument("weights", type=Path, help="the backbone, .safetensors")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    schedule = Schedule(
        batch=128,
        learning_rate=0.002,
        weight_decay=0.02,
        warmup_epochs=0.5,
        average_decay=0.998,
        stages=(Stage(options.epochs, 64),),
    )
    folders = _folders(options.data)
    images, held_out = (data.read(options.data, split, folders) for split in ("train", "val"))
    found: dict[str, list[float]] = {"from scratch": [], "fine-tuned": []}
    for seed in range(options.seeds):
        lesson = _lesson(images, len(folders), seed)
        for kind, results in found.items():
            torch.manual_seed(seed)
            weights = options.weights if kind == "fine-tuned" else None
            module = _network(len(folders), weights)
            results.append(_run(f"{kind}, seed {seed}", module, lesson, schedule, held_out, seed))
    steps = -(-len(images.pixels) // schedule.batch) * options.epochs
    print(f"\n| {NAME}, {steps} steps of {schedule.batch} | top-1 of {len(held_out.pixels)} |")
    print("|---|---|")
    for kind, results in found.items():
        print(f"| {kind} | {', '.join(f'{100 * value:.2f} %' for value in results)} |")


def _folders(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        names = {name.split("/")[1] for name in archive.namelist() if name.startswith("train/")}
    return sorted(names - {""})


def _lesson(images: Images, classes: int, seed: int) -> Lesson:
    wanted = np.full((len(images.targets), classes), SMOOTHING / classes, np.float32)
    wanted[np.arange(len(wanted)), images.targets] += 1 - SMOOTHING
    height, width = images.pixels.shape[1:3]
    drawn = views.draw(len(wanted), height, width, VIEWS, seed)
    answers = np.broadcast_to(wanted[:, None], (len(wanted), VIEWS.count, classes))
    return Lesson(images.pixels, drawn, answers, 1.0, IMAGE)


def _network(classes: int, weights: Path | None) -> nn.Module:
    module: nn.Module = plugins.architecture(NAME)(num_classes=classes, stem_stride=1)
    if weights is not None:
        stored = checkpoint.read(weights).tensors
        convert = plugins.converter(NAME, "from_original")
        state = convert({n: torch.from_numpy(np.array(v)) for n, v in stored.items()})
        absent, left_over = module.load_state_dict(state, strict=False)
        assert not left_over
        assert not [n for n in absent if not n.startswith(("conv5", "fc")) and "tracked" not in n]
    return module


def _run(
    task: str, module: nn.Module, lesson: Lesson, schedule: Schedule, held_out: Images, seed: int
) -> float:
    def watch(progress: Progress, average: nn.Module) -> None:
        if progress.ends_epoch:
            top1 = accuracy(average, held_out, IMAGE)
            print(
                f"{task}: epoch {progress.epoch}/{schedule.epochs}, loss {progress.loss:.3f}, "
                f"top-1 {top1:.4f}",
                flush=True,
            )

    with TemporaryDirectory() as folder:
        module = train(module, lesson, schedule, seed, Path(folder) / "state.pt", watch)
    return accuracy(fold_batch_norm(module), held_out, IMAGE)


if __name__ == "__main__":
    main()
