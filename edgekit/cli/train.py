"""`edgekit distill`: a recipe becomes a checkpoint."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgekit.learn.distil import Watch


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
    with _watching() as watch:
        path = distil(wanted, out or Path(wanted.name), watch)
    print(path)


class _Log:
    """Lines on stderr, for a log file."""

    def step(self, task: str, done: int, total: int) -> None:
        pass

    def line(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def _watching() -> "Iterator[Watch]":
    """A progress bar on a terminal, plain lines everywhere else; both on stderr."""
    if not sys.stderr.isatty():
        yield _Log()
        return
    from rich.console import Console
    from rich.progress import Progress, TaskID

    with Progress(console=Console(stderr=True)) as progress:
        tasks: dict[str, TaskID] = {}

        class Bar:
            def step(self, task: str, done: int, total: int) -> None:
                if task not in tasks:
                    tasks[task] = progress.add_task(task)
                progress.update(tasks[task], completed=done, total=total)

            def line(self, text: str) -> None:
                progress.console.print(text, highlight=False, markup=False)

        yield Bar()
