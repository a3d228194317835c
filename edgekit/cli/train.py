"""`edgekit train`, `distill`, `prune`, `quantize`: a recipe becomes a checkpoint."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

RecipeFile: TypeAlias = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A TOML file, see recipes/.")
]
DataPath: TypeAlias = Annotated[
    Path | None,
    typer.Option("--data", metavar="PATH", help="Where the images lie; default: as the recipe."),
]
Out: TypeAlias = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="DIR", help="Default: ./ and the recipe's name."),
]


def train(recipe: RecipeFile, data: DataPath = None, out: Out = None) -> None:
    """Train a network: all steps of a recipe up to its last 'train'.

    The same command goes on with a run that was interrupted. A step that is done is not done again.
    """
    _run("train", recipe, data, out)


def distill(recipe: RecipeFile, data: DataPath = None, out: Out = None) -> None:
    """Train a network to answer as teachers do: a recipe up to its last 'distill'."""
    _run("distill", recipe, data, out)


def prune(recipe: RecipeFile, data: DataPath = None, out: Out = None) -> None:
    """Remove weights or channels, and train on: a recipe up to its last 'prune'."""
    _run("prune", recipe, data, out)


def quantize(recipe: RecipeFile, data: DataPath = None, out: Out = None) -> None:
    """Train a network for int8: a recipe up to its last 'quantize'."""
    _run("quantize", recipe, data, out)


def _run(kind: str, path: Path, data: Path | None, out: Path | None) -> None:
    import dataclasses

    from edgekit.cli.watch import watching
    from edgekit.errors import InputError, MissingPackage
    from edgekit.learn.recipe.recipe import read

    recipe = read(path)
    if data is not None:
        spec = dataclasses.replace(recipe.head.data, path=data)
        recipe = dataclasses.replace(recipe, head=dataclasses.replace(recipe.head, data=spec))
    last = max((n for n, step in enumerate(recipe.steps, 1) if step.kind == kind), default=0)
    if not last:
        kinds = ", ".join(step.kind for step in recipe.steps)
        raise InputError(f"{path} has no step of kind '{kind}'; its steps are: {kinds}")
    try:
        from edgekit.learn.chain import run
    except ModuleNotFoundError as error:
        raise MissingPackage(error.name or "torch", "host", "training") from error
    with watching() as watch:
        done = run(recipe, out or Path(recipe.head.name), watch, recipe.steps[:last])
    print(done[-1].path)
