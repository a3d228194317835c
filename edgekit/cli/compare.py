"""`edgekit compare`: bundles side by side, on the same images, in one run."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgekit.device.measure.compare import Comparison, Row, Share


def compare(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Bundle folders.")],
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
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Compare bundles over backends and precisions: size, accuracy, agreement, latency, memory.

    Shares come with their 95 % interval. A bundle that cannot run here is a row that says why.
    """
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
