"""Recipes: TOML -> one tree of frozen values; an unknown key is refused, naming the valid ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekit import values
from edgekit.errors import SpecError
from edgekit.spec import ImageSpec


@dataclass(frozen=True, slots=True)
class ClassSpec:
    """One class: the folder that holds its images, its name for people, the teacher's output."""

    folder: str
    label: str
    teacher: int


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """An architecture and its keyword arguments."""

    architecture: str
    arguments: Mapping[str, int | float | str | bool]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """The fixed random views of each training image, of which an epoch takes one."""

    count: int
    min_area: float
    """Smallest crop, as a fraction of the image's area; the largest is 1."""
    max_ratio: float
    """Widest crop, width over height; the tallest is its inverse."""
    contrast: float
    """Contrast is scaled by 1 - contrast to 1 + contrast."""
    brightness: float
    """Brightness is shifted by up to this fraction of the range, both ways."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A number of epochs on square training images of `size` pixels a side."""

    epochs: int
    size: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """One run of the loop: AdamW, linear warm-up, cosine to zero, a moving average of weights."""

    batch: int
    learning_rate: float
    weight_decay: float
    warmup_epochs: float
    average_decay: float
    """Decay of the exponential moving average of the weights, per step."""
    stages: tuple[Stage, ...]
    """Progressive resizing: small images first, which train faster."""

    @property
    def epochs(self) -> int:
        return sum(stage.epochs for stage in self.stages)


@dataclass(frozen=True, slots=True)
class Teacher:
    """A trained network that is adapted to the classes and the images, and then labels views."""

    model: ModelChoice
    weights: Path
    temperature: float
    """Softens the teacher's answers and the student's alike (Hinton et al., 2015, section 2)."""
    hard: float
    """Share of the true label in the target, 0 to 1; the teacher's answer has the rest."""
    smoothing: float
    """Label smoothing while the teacher is adapted, 0 to 1."""
    size: int
    """Side of the views that the teacher labels, in pixels."""
    schedule: Schedule
    """Of the adaptation; no stages leave the teacher as it is."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one checkpoint is distilled."""

    name: str
    """Of the checkpoint."""
    seed: int
    data: Path
    """A zip or folder with `train/<folder>/` and `val/<folder>/`."""
    trained_on: str
    """For the card, for people: the data and its terms."""
    license: str
    model: ModelChoice
    image: ImageSpec
    views: Augmentation
    schedules: tuple[Schedule, ...]
    """Run one after the other, each from the averaged weights of the one before: warm restarts
    (Loshchilov & Hutter, 2017)."""
    teacher: Teacher
    classes: tuple[ClassSpec, ...]
    """In the order of the network's outputs."""

    @property
    def epochs(self) -> int:
        return sum(schedule.epochs for schedule in self.schedules)


def read(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        SpecError: a key is unknown, missing or of a wrong type, or its value makes no sense.
    """
    recipe = values.read_toml(Recipe, path, SpecError)
    for holds, rule in _rules(recipe):
        if not holds:
            raise SpecError(f"{path}: {rule}")
    return recipe


def _rules(recipe: Recipe) -> tuple[tuple[bool, str], ...]:
    views, teacher, wanted = recipe.views, recipe.teacher, len(recipe.classes)
    outputs = recipe.model.arguments.get("num_classes", wanted)
    folders = {spec.folder for spec in recipe.classes}
    return (
        (wanted > 1, f"'classes' has {wanted} entries; two are the fewest that can be told apart"),
        (len(folders) == wanted, "'classes' names a folder twice; each class has its own"),
        (
            outputs == wanted,
            f"'model.arguments.num_classes' is {outputs}, but 'classes' has {wanted} entries",
        ),
        (all(spec.teacher >= 0 for spec in recipe.classes), "'classes.teacher' counts from 0"),
        (views.count > 0, f"'views.count' must be at least 1, got {views.count}"),
        (0 < views.min_area <= 1, f"'views.min_area' must be in (0, 1], got {views.min_area}"),
        (views.max_ratio >= 1, f"'views.max_ratio' must be at least 1, got {views.max_ratio}"),
        (0 <= teacher.hard <= 1, f"'teacher.hard' must be in [0, 1], got {teacher.hard}"),
        (teacher.temperature > 0, "'teacher.temperature' must be above 0"),
        (teacher.size > 0, "'teacher.size' must be at least 1"),
        (recipe.epochs > 0, "'schedules' must have at least one epoch"),
        *(
            rule
            for number, schedule in enumerate(recipe.schedules)
            for rule in _schedule_rules(schedule, f"schedules.{number}")
        ),
        *_schedule_rules(teacher.schedule, "teacher.schedule"),
    )


def _schedule_rules(schedule: Schedule, name: str) -> tuple[tuple[bool, str], ...]:
    return (
        (schedule.batch > 0, f"'{name}.batch' must be at least 1, got {schedule.batch}"),
        (
            all(stage.epochs >= 0 and stage.size > 0 for stage in schedule.stages),
            f"'{name}.stages' needs epochs of at least 0 and sizes of at least 1 pixel",
        ),
        (
            0 <= schedule.warmup_epochs <= schedule.epochs,
            f"'{name}.warmup_epochs' is {schedule.warmup_epochs}, of {schedule.epochs} epochs",
        ),
        (0 <= schedule.average_decay < 1, f"'{name}.average_decay' must be in [0, 1)"),
    )
