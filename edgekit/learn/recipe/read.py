"""A recipe, read from TOML and held to its rules."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import values
from edgekit.errors import SpecError, UnknownName
from edgekit.learn.recipe.data import ClassSpec
from edgekit.learn.recipe.recipe import Head, Recipe
from edgekit.learn.recipe.rules import check
from edgekit.learn.recipe.steps import KINDS, Step


def read(path: Path) -> Recipe:
    """Read a recipe.

    A relative `data.path` counts from where the command runs; `data.classes` from the recipe.

    Raises:
        SpecError: a key is unknown, missing or of a wrong type, or its value makes no sense.
    """
    mapping = values.toml_mapping(path)
    steps = mapping.pop("steps", [])
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise SpecError(f"{path}: 'steps' must be tables: [[steps]], each with a 'kind'")
    head = values.parse(Head, mapping, str(path))
    recipe = Recipe(
        head=head,
        classes=_classes(path.parent / head.data.classes) if head.data.classes else (),
        steps=tuple(_step(step, n, path) for n, step in enumerate(steps, 1)),
        text=path.read_text(encoding="utf-8"),
    )
    check(recipe, str(path))
    return recipe


@dataclass(frozen=True, slots=True)
class _Classes:
    classes: tuple[ClassSpec, ...]


def _classes(path: Path) -> tuple[ClassSpec, ...]:
    return values.read_toml(_Classes, path).classes


def _step(mapping: Mapping[str, Any], number: int, path: Path) -> Step:
    kind = mapping.get("kind")
    if kind is None:
        raise SpecError(f"{path}: step {number} has no 'kind'; there are: {', '.join(KINDS)}")
    if kind not in KINDS:
        raise UnknownName(f"kind of step (step {number} of {path})", str(kind), KINDS)
    return values.parse(KINDS[kind], {"name": kind, **mapping}, f"{path}: step {number} ({kind})")
