"""A recipe as the command line changes it: other data, network or seed, fewer epochs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgekit.errors import InputError
from edgekit.learn.recipe.fit import Fit, Stage
from edgekit.learn.recipe.recipe import Recipe
from edgekit.learn.recipe.rules import check
from edgekit.learn.recipe.steps import BuildStep, ModelChoice, PruneStep, Step


@dataclass(frozen=True, slots=True)
class Changes:
    """What the command line says; what it does not say stays as the recipe has it."""

    data: Path | None = None
    weights: str = ""
    """A checkpoint, file or name, to begin with."""
    model: str = ""
    """Another architecture, or `package.module:function`."""
    arguments: Mapping[str, int | float | str | bool] = field(default_factory=dict)
    """Of the architecture."""
    seed: int | None = None
    epochs: int = 0
    """Of each step: its stages, warm-up and rewinding are scaled to it; 0: as in the recipe."""


def changed(recipe: Recipe, changes: Changes) -> Recipe:
    """The recipe with the changes; those to what is learned are added to its text.

    With another model the checkpoint is called after it, and of the recipe's arguments the other
    architecture gets those that it has.

    Raises:
        InputError, SpecError, UnknownName: a change makes no sense.
    """
    head = recipe.head
    if changes.epochs < 0:
        raise InputError(f"--epochs must be at least 1, got {changes.epochs}")
    model = head.model
    if changes.model:
        model = replace(model, architecture=changes.model, weights="")
        model = replace(model, arguments=_known(model, head.model.architecture))
        head = replace(head, name=f"{head.name}-{changes.model.rpartition(':')[2]}")
    if changes.arguments:
        model = replace(model, arguments={**model.arguments, **changes.arguments})
    if changes.weights:
        model = replace(model, weights=changes.weights)
    if changes.data is not None:
        head = replace(head, data=replace(head.data, path=changes.data))
    head = replace(head, model=model, seed=head.seed if changes.seed is None else changes.seed)
    steps = tuple(_shortened(step, changes.epochs) for step in recipe.steps)
    made = replace(recipe, head=head, steps=steps, text=recipe.text + _told(changes))
    check(made, "the recipe, as the command line changes it")
    return made


def _known(model: ModelChoice, before: str) -> dict[str, int | float | str | bool]:
    """Those of the arguments that the new architecture has, too."""
    if ":" in model.architecture:
        return {}
    import inspect

    from edgekit.plugins import architecture

    if model.architecture == before:
        return model.arguments
    parameters = inspect.signature(architecture(model.architecture)).parameters
    return {name: value for name, value in model.arguments.items() if name in parameters}


def _shortened(step: Step, epochs: int) -> Step:
    if isinstance(step, BuildStep) or not epochs or not step.fit.total_epochs:
        return step
    share = epochs / step.fit.total_epochs
    if isinstance(step, PruneStep):
        step = replace(step, rewind_epoch=round(step.rewind_epoch * share))
    return replace(step, fit=with_epochs(step.fit, epochs))


def with_epochs(fit: Fit, epochs: int) -> Fit:
    """The same run in so many epochs: its stages and its warm-up keep their shares."""
    share = epochs / fit.total_epochs
    ends, stages = 0, list[Stage]()
    for stage in fit.stages:
        begins, ends = ends, ends + stage.epochs
        stages.append(Stage(round(ends * share) - round(begins * share), stage.size))
    return replace(
        fit,
        epochs=0 if fit.stages else epochs,
        stages=tuple(stages),
        warmup_epochs=fit.warmup_epochs * share,
    )


def _told(changes: Changes) -> str:
    """The command line's part, as comments: the text of a recipe stays TOML."""
    said = {
        "--from": changes.weights,
        "--model": changes.model,
        "--argument": " ".join(f"{name}={value}" for name, value in changes.arguments.items()),
        "--seed": "" if changes.seed is None else str(changes.seed),
        "--epochs": str(changes.epochs or ""),
    }
    lines = [f"# {option} {value}\n" for option, value in said.items() if value]
    return "".join(["\n# changed on the command line:\n", *lines]) if lines else ""
