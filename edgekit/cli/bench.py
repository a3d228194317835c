"""`edgekit bench`: how fast bundles are on this machine."""

from pathlib import Path
from typing import Annotated

import typer


def bench(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Bundle folders.")],
    runs: Annotated[int, typer.Option(min=1, help="Timed runs of each bundle.")] = 200,
    warmup: Annotated[int, typer.Option(min=0, help="Runs before the timed ones.")] = 20,
    threads: Annotated[
        int | None, typer.Option(min=0, help="Threads; the bundle's own setting if not given.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Measure latency, throughput and memory of bundles, side by side on this machine."""
    from edgekit.cli.show import print_json, print_table
    from edgekit.device.measure.bench import measure

    results = measure(bundles, runs, warmup, threads)
    if json:
        print_json(results)
        return
    numbers = ("threads", "min/ms", "p50/ms", "p95/ms", "p99/ms", "runs/s", "peak/MB", "base/MB")
    rows = [
        (
            Path(it.loaded.bundle).name,
            it.loaded.precision,
            str(it.loaded.threads or "default"),
            f"{it.min_ms:.3f}",
            f"{it.p50_ms:.3f}",
            f"{it.p95_ms:.3f}",
            f"{it.p99_ms:.3f}",
            f"{it.per_second:.1f}",
            f"{it.peak_memory_mb:.1f}",
            f"{it.base_memory_mb:.1f}",
        )
        for it in results
    ]
    print_table(("bundle", "precision", *numbers), rows, right=numbers)
    for it in results:
        for note in it.loaded.notes:
            print(f"{Path(it.loaded.bundle).name}: {note}")
