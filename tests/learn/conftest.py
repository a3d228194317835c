"""Small made-up data, and a recipe that learns from it in seconds."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekit.learn.data import source
from edgekit.learn.data.source import Data
from edgekit.learn.recipe.data import Augment, DataSpec
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.recipe.recipe import Head, Recipe
from edgekit.learn.recipe.steps import ModelChoice, Step, TrainStep
from edgekit.learn.train.place import HERE
from edgekit.learn.work import Work
from edgekit.spec import ImageSpec

COLOURS = {"a": (220, 40, 40), "b": (40, 220, 40), "c": (40, 40, 220)}
"""RGB of the images of each class folder: what there is to learn."""


def picture(folder: str, seed: int, side: int = 24) -> np.ndarray:
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


@pytest.fixture(scope="session")
def data(folder: Path) -> Data:
    """`folder`, read."""
    return source.read(DataSpec(folder), ())


@pytest.fixture
def how() -> Fit:
    """Thirty epochs of three steps, which learn the three colours."""
    return Fit(learning_rate=0.01, epochs=30, batch=8, weight_decay=0.01, warmup_epochs=1)


@pytest.fixture
def make_recipe(folder: Path) -> Callable[..., Recipe]:
    """Makes a recipe of these steps: a narrow MobileNetV2, 24 x 24 pixels, three classes."""

    def make(*steps: Step, augment: Augment | None = None) -> Recipe:
        head = Head(
            name="small",
            seed=1,
            trained_on="made-up colours",
            license="Apache-2.0",
            data=DataSpec(folder),
            model=ModelChoice(
                "mobilenet_v2", {"width_mult": 0.1, "stem_stride": 1, "dropout": 0.1}
            ),
            image=ImageSpec(24, 24, crop_fraction=1.0, interpolation="area"),
            augment=augment or Augment(min_area=0.5, contrast=0.1, brightness=0.05),
        )
        return Recipe(head, (), steps, text="")

    return make


@pytest.fixture
def recipe(make_recipe: Callable[..., Recipe], how: Fit) -> Recipe:
    """One training step."""
    return make_recipe(TrainStep("train", "train", how))


class Silent:
    """A watch that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def step(self, task: str, done: int, total: int, note: str = "") -> None:
        pass

    def line(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def watch() -> Silent:
    return Silent()


@pytest.fixture
def work(recipe: Recipe, data: Data, watch: Silent, tmp_path: Path) -> Work:
    return Work(recipe, data, HERE, watch, tmp_path)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are slower with more, most of all beside other work."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
