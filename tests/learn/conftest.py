"""Small made-up data and a recipe that learns from it in seconds."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekit.learn.data import Images
from edgekit.learn.recipe import (
    Augmentation,
    ClassSpec,
    ModelChoice,
    Recipe,
    Schedule,
    Stage,
    Teacher,
)
from edgekit.spec import ImageSpec

COLOURS = {"a": (220, 40, 40), "b": (40, 220, 40), "c": (40, 40, 220)}
"""RGB of the images of each class folder: what there is to learn."""


def picture(folder: str, seed: int, side: int = 16) -> np.ndarray:
    """(side, side, 3) uint8 RGB: the class's colour and some noise."""
    noise = np.random.default_rng((seed, ord(folder))).integers(-40, 40, (side, side, 3))
    return np.clip(np.array(COLOURS[folder]) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train/` with 8 and `val/` with 4 images of each of the classes a, b, c."""
    root = tmp_path_factory.mktemp("images")
    for split, count in (("train", 8), ("val", 4)):
        for name in COLOURS:
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                image = picture(name, i + (100 if split == "val" else 0))
                cv2.imwrite(str(root / split / name / f"{i}.png"), image[:, :, ::-1])
    return root


@pytest.fixture
def images() -> Images:
    """The training images of `folder`, without the folder."""
    pixels = np.stack([picture(name, i) for name in COLOURS for i in range(8)])
    return Images(pixels, np.repeat(np.arange(3), 8))


@pytest.fixture
def schedule() -> Schedule:
    return Schedule(
        batch=12,
        learning_rate=0.003,
        weight_decay=0.01,
        warmup_epochs=0.5,
        average_decay=0.5,
        stages=(Stage(2, 16), Stage(2, 24)),
    )


@pytest.fixture
def recipe(folder: Path, schedule: Schedule, tmp_path: Path) -> Recipe:
    """A student and a teacher of three classes; the teacher's weights are not written yet."""
    arguments = {"num_classes": 3, "width_mult": 0.1, "stem_stride": 1, "dropout": 0.0}
    return Recipe(
        name="small",
        seed=1,
        data=folder,
        trained_on="made-up colours",
        license="Apache-2.0",
        model=ModelChoice("mobilenet_v2", arguments),
        image=ImageSpec(16, 16, crop_fraction=1.0, interpolation="area"),
        views=Augmentation(count=3, min_area=0.5, max_ratio=1.25, contrast=0.1, brightness=0.05),
        schedules=(schedule, dataclasses.replace(schedule, stages=(Stage(1, 24),))),
        teacher=Teacher(
            model=ModelChoice("mobilenet_v2", {**arguments, "num_classes": 5}),
            weights=tmp_path / "teacher.safetensors",
            temperature=2.0,
            hard=0.2,
            smoothing=0.1,
            size=16,
            schedule=dataclasses.replace(schedule, stages=(Stage(1, 16),)),
        ),
        classes=(ClassSpec("a", "red", 4), ClassSpec("b", "green", 0), ClassSpec("c", "blue", 2)),
    )


@pytest.fixture
def write_teacher(recipe: Recipe) -> Callable[[], None]:
    """Writes random weights for the recipe's teacher, as a checkpoint without a card."""

    def write() -> None:
        import torch
        from safetensors.torch import save_file

        from edgekit.lower.network import fold_batch_norm
        from edgekit.plugins import architecture

        torch.manual_seed(0)
        module = architecture("mobilenet_v2")(**recipe.teacher.model.arguments)
        save_file(fold_batch_norm(module).state_dict(), recipe.teacher.weights)

    return write


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are slower with more, most of all beside other work."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
