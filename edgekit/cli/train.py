"""`edgekit train`, `distill`, `prune`, `quantize`: a recipe becomes a checkpoint."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgekit.learn.recipe.recipe import Recipe
    from edgekit.learn.train.place import Place


def _verb(kind: str, text: str) -> Callable[..., None]:
    """The verb that runs a recipe up to its last step of this kind."""

    def verb(
        recipe: Annotated[
            Path, typer.Argument(metavar="RECIPE", help="A TOML file, see recipes/.")
        ],
        data: Annotated[
            Path | None,
            typer.Option(metavar="PATH", help="Where the images lie; default: as the recipe."),
        ] = None,
        out: Annotated[
            Path | None,
            typer.Option("--out", "-o", metavar="DIR", help="Default: ./ and the recipe's name."),
        ] = None,
        weights: Annotated[
            str,
            typer.Option(
                "--from", metavar="CHECKPOINT", help="Weights to begin with: a file, or a name."
            ),
        ] = "",
        model: Annotated[
            str,
            typer.Option(
                metavar="ARCHITECTURE",
                help="Another network by the same recipe; the name gets -ARCHITECTURE.",
            ),
        ] = "",
        argument: Annotated[
            list[str] | None,
            typer.Option(
                metavar="NAME=VALUE",
                help="Of the architecture, as width_mult=0.5; may be repeated.",
            ),
        ] = None,
        seed: Annotated[
            int | None, typer.Option(min=0, help="Another one than the recipe's.")
        ] = None,
        seeds: Annotated[
            int,
            typer.Option(min=1, help="Run so many seeds, in DIR/seed-K; prints mean and spread."),
        ] = 1,
        epochs: Annotated[
            int, typer.Option(min=0, help="Of each step, for a quick try; 0: as the recipe.")
        ] = 0,
        device: Annotated[
            str, typer.Option(metavar="auto|cpu|cuda[:N]|mps", help="What computes.")
        ] = "auto",
        threads: Annotated[
            int, typer.Option(min=0, help="On the CPU; 0: as many as PyTorch takes.")
        ] = 0,
        find_learning_rate: Annotated[
            bool,
            typer.Option(
                "--find-learning-rate",
                help="Sweep the first step's learning rate, suggest one, and train nothing.",
            ),
        ] = False,
        overfit_one_batch: Annotated[
            bool,
            typer.Option(
                "--overfit-one-batch",
                help="See whether the network can learn one batch by heart, and train nothing.",
            ),
        ] = False,
    ) -> None:
        from edgekit.learn.recipe.changed import Changes, changed
        from edgekit.learn.recipe.read import read

        _need_torch()
        with _place(device, threads) as place:
            from edgekit.lower.plan import parse_arguments

            arguments = parse_arguments(argument or ())
            wanted = changed(read(recipe), Changes(data, weights, model, arguments, seed, epochs))
            folder = out or Path(wanted.head.name)
            if find_learning_rate:
                _find(wanted, folder, place)
            elif overfit_one_batch:
                _overfit(wanted, folder, place)
            elif seeds > 1:
                _repeat(wanted, kind, seeds, folder, place)
            else:
                _run(wanted, kind, folder, place)

    verb.__name__, verb.__doc__ = kind, text
    return verb


train = _verb(
    "train",
    """Train a network: all steps of a recipe up to its last 'train'.

    The same command goes on with a run that was interrupted. A step that is done is not done again.
    """,
)
distill = _verb(
    "distill",
    "Train a network to answer as teachers do: a recipe up to its last 'distill'.",
)
prune = _verb("prune", "Remove weights or channels, and train on: a recipe up to its last 'prune'.")
quantize = _verb("quantize", "Train a network for int8: a recipe up to its last 'quantize'.")


@contextmanager
def _place(device: str, threads: int) -> "Iterator[Place]":
    import torch

    from edgekit.learn.train.distributed import joined

    if threads:
        torch.set_num_threads(threads)
    with joined("" if device == "auto" else device) as place:
        yield place


def _run(recipe: "Recipe", kind: str, out: Path, place: "Place") -> None:
    from edgekit.cli.show import print_table
    from edgekit.cli.watch import watching
    from edgekit.learn import chain

    with watching(place.leads) as watch:
        done = chain.run(recipe, out, watch, chain.upto(recipe, kind), place)
    if place.leads:
        made = done[-1].student.history
        print_table(
            ("step", "kind", "top-1", "MACs", "parameters"),
            [
                (m.step, m.kind, _percent(m.accuracy), f"{m.macs:,}", f"{m.parameters:,}")
                for m in made
            ],
            right=("top-1", "MACs", "parameters"),
        )
        print(done[-1].path)


def _repeat(recipe: "Recipe", kind: str, seeds: int, out: Path, place: "Place") -> None:
    from edgekit.cli.show import print_table
    from edgekit.cli.watch import watching
    from edgekit.learn import chain
    from edgekit.learn.seeds import repeat

    with watching(place.leads) as watch:
        found = repeat(recipe, seeds, out, watch, chain.upto(recipe, kind), place)
    if place.leads:
        columns = ("step", *(f"seed {seed}" for seed in found.seeds), "mean", "deviation")
        rows = [
            (it.step, *map(_percent, it.top1), _percent(it.mean), _percent(it.deviation))
            for it in found.spreads
        ]
        print_table(columns, rows, right=columns[1:])
        for path in found.last:
            print(path)


def _find(recipe: "Recipe", out: Path, place: "Place") -> None:
    from edgekit.cli.watch import watching
    from edgekit.learn.train.finder import write
    from edgekit.learn.trial import find_learning_rate

    with watching(place.leads) as watch:
        sweep = find_learning_rate(recipe, out, watch, place)
    if place.leads:
        table, picture = write(sweep, out)
        print(f"learning_rate = {sweep.suggestion:.2g}")
        print(f"(see {picture} and {table})")


def _overfit(recipe: "Recipe", out: Path, place: "Place") -> None:
    from edgekit.cli.watch import watching
    from edgekit.errors import CheckFailed
    from edgekit.learn.trial import overfit_one_batch

    with watching(place.leads) as watch:
        found = overfit_one_batch(recipe, out, watch, place)
    if not found.passed:
        raise CheckFailed(found.meaning())
    if place.leads:
        print(found.meaning())


def _need_torch() -> None:
    from edgekit.errors import MissingPackage

    try:
        import edgekit.learn.chain  # noqa: F401 - all that training needs
    except ModuleNotFoundError as error:
        raise MissingPackage(error.name or "torch", "host", "training") from error


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"
