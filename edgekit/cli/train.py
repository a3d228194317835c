"""`edgekit distill`: a recipe becomes a checkpoint."""

from pathlib import Path
from typing import Annotated

import typer


def distill(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML file, see recipes/.")],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="A zip or folder with train/ and val/; default: the recipe's."
        ),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The teacher's .safetensors weights; default: the recipe's."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Default: ./ and the recipe's name."),
    ] = None,
) -> None:
    """Train a small network to answer as a large one does.

    The checkpoint in DIR is renewed after each epoch. The same command goes on with a run that was
    interrupted.
    """
    import dataclasses

    from edgekit.cli.watch import watching
    from edgekit.errors import MissingPackage
    from edgekit.learn.recipe import read

    wanted = read(recipe)
    wanted = dataclasses.replace(
        wanted,
        data=data or wanted.data,
        teacher=dataclasses.replace(wanted.teacher, weights=teacher or wanted.teacher.weights),
    )
    try:
        from edgekit.learn.distil import distil
    except ModuleNotFoundError as error:
        raise MissingPackage(error.name or "torch", "host", "distilling") from error
    with watching() as watch:
        path = distil(wanted, out or Path(wanted.name), watch)
    print(path)
