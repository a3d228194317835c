"""`edgekit compare`: bundles, or the steps of a recipe, side by side, in one run."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgekit.device.measure.compare import Comparison, Row, Share
    from edgekit.learn.ladder import Ladder


def compare(
    bundles: Annotated[
        list[Path],
        typer.Argument(metavar="BUNDLE...|RECIPE", help="Bundle folders; or one recipe, .toml."),
    ],
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Images to run, or one folder of them a class."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Lines of an image's name and the index of its class."),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs of each bundle.")] = 100,
    warmup: Annotated[int, typer.Option(min=0, help="Runs before the timed ones.")] = 10,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="RECIPE: where it was run."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="RECIPE: where the images lie; default: as it says."),
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="ARCHITECTURE", help="RECIPE: as it was run with this --model.")
    ] = "",
    target: Annotated[
        str, typer.Option("--target", "-t", help="RECIPE: build each step for this.")
    ] = "raspberry-pi",
    precision: Annotated[
        list[str] | None,
        typer.Option(help="RECIPE: build each step in it; may be repeated. Default: fp32, int8."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="RECIPE: draw the ladder into a .png, .svg or .pdf."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Compare bundles over backends and precisions: size, accuracy, agreement, latency, memory.

    Shares come with their 95 % interval. A bundle that cannot run here is a row that says why.

    With a RECIPE: the ladder of its steps, each built and measured.
    """
    if any(path.suffix == ".toml" for path in bundles):
        wanted = precision or ["fp32", "int8"]
        _print_ladder(bundles, out, data, model, target, wanted, runs, plot, json)
        return
    from edgekit.cli.show import print_json
    from edgekit.device.measure.compare import compare

    found = compare(
        bundles, images, labels, runs, warmup, lambda line: print(line, file=sys.stderr)
    )
    if json:
        print_json(found)
        return
    _print_rows(found)
    _print_pairs(found)


def _print_ladder(
    paths: list[Path],
    out: Path | None,
    data: Path | None,
    model: str,
    target: str,
    precisions: list[str],
    runs: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    from edgekit.cli.show import print_json
    from edgekit.errors import InputError, MissingPackage
    from edgekit.learn.recipe.changed import Changes, changed
    from edgekit.learn.recipe.read import read

    if len(paths) > 1:
        raise InputError("give one recipe, or bundles: a recipe's steps are compared by themselves")
    recipe = changed(read(paths[0]), Changes(data=data, model=model))
    try:
        from edgekit.learn.ladder import ladder
        from edgekit.learn.ladder_plot import draw
    except ModuleNotFoundError as error:
        raise MissingPackage(error.name or "torch", "host", "comparing a recipe's steps") from error
    where = out or Path(recipe.head.name)
    found = ladder(
        recipe, where, target, precisions, runs, lambda line: print(line, file=sys.stderr)
    )
    if plot is not None:
        draw(found, plot)
    if as_json:
        print_json(found)
    else:
        _print_rungs(found)


def _print_rungs(found: "Ladder") -> None:
    from edgekit.cli.show import print_table

    numbers = ("top-1", "in PyTorch", "M MACs", "M parameters", "MB", "p50/ms", "p95/ms")
    rows = [
        (
            rung.step,
            rung.precision,
            f"{100 * rung.top1:.2f} %",
            f"{100 * rung.checkpoint_top1:.2f} %",
            f"{rung.macs / 1e6:.1f}",
            f"{rung.parameters / 1e6:.3f}",
            f"{rung.model_bytes / 1e6:.2f}",
            f"{rung.latency.p50_ms:.2f}",
            f"{rung.latency.p95_ms:.2f}",
        )
        for rung in found.rungs
    ]
    print_table(("step", "precision", *numbers), rows, right=numbers)
    print(
        f"{found.recipe} for {found.target} ({found.backend}); top-1 of "
        f"{found.rungs[0].images} images; 'in PyTorch' is the checkpoint's (of 'quantize', in int8)"
    )


def _print_rows(found: "Comparison") -> None:
    from edgekit.cli.show import print_table

    numbers = ("MB", "top-1", "agrees", "p50/ms", "p95/ms", "peak/MB")
    rows = [
        (
            Path(row.bundle).name,
            row.backend,
            row.precision,
            f"{row.model_bytes / 1e6:.2f}",
            _share(row.top1),
            _share(row.agreement),
            *_speed(row),
        )
        for row in found.rows
    ]
    print_table(("bundle", "backend", "precision", *numbers), rows, right=numbers)
    for row in found.rows:
        if row.refused:
            print(f"{Path(row.bundle).name} did not run: {row.refused}")
    if found.images:
        print(f"{found.images} images; 'agrees' is with {Path(found.reference).name}")


def _print_pairs(found: "Comparison") -> None:
    from edgekit.cli.show import print_table

    if not found.pairs:
        return
    print()
    numbers = ("same top-1", "largest difference", "in steps")
    rows = [
        (
            f"{Path(pair.first).name}, {Path(pair.second).name}",
            _share(pair.top1_agreement),
            f"{pair.max_abs_difference:.3g}",
            "" if pair.steps is None else f"{pair.steps:.2f}",
        )
        for pair in found.pairs
    ]
    print_table(("pair", *numbers), rows, right=numbers)


def _share(found: "Share | None") -> str:
    """`75.7 % (72.6 to 78.5)`."""
    if found is None:
        return ""
    share, low, high = (100 * value for value in (found.share, found.low, found.high))
    return f"{share:.1f} % ({low:.1f} to {high:.1f})"


def _speed(row: "Row") -> tuple[str, str, str]:
    if row.speed is None:
        return ("", "", "")
    found = row.speed
    return (f"{found.p50_ms:.2f}", f"{found.p95_ms:.2f}", f"{found.peak_memory_mb:.1f}")
