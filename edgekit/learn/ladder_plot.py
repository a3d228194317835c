"""The ladder as a picture: top-1 over latency, and the size of each model file."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from edgekit.errors import StorageError
from edgekit.learn.ladder import Ladder

matplotlib.use("Agg")


def draw(ladder: Ladder, path: Path) -> None:
    """Write the plot; the ending of `path` says in which format (.png, .svg, .pdf).

    Raises:
        StorageError: it cannot be written.
    """
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    over_time, sizes = figure.subplots(1, 2)
    for precision in dict.fromkeys(rung.precision for rung in ladder.rungs):
        rungs = [rung for rung in ladder.rungs if rung.precision == precision]
        milliseconds = [rung.latency.p50_ms for rung in rungs]
        over_time.plot(milliseconds, [100 * r.top1 for r in rungs], "o-", label=precision)
        for number, (rung, x) in enumerate(zip(rungs, milliseconds, strict=True), 1):
            over_time.annotate(
                f"{number} {rung.step}", (x, 100 * rung.top1), (4, 4), textcoords="offset points"
            )
    over_time.set_xlabel(f"p50 latency on {ladder.backend}, {ladder.threads} thread(s), ms")
    over_time.set_ylabel(f"top-1 of {ladder.rungs[0].images} images, %")
    slowest = max(rung.latency.p50_ms for rung in ladder.rungs)
    over_time.set_xlim(0, 1.35 * slowest)  # with room for the names
    over_time.margins(y=0.1)
    over_time.grid(alpha=0.3)
    over_time.legend(loc="lower left")
    names = [f"{rung.step} {rung.precision}" for rung in ladder.rungs]
    sizes.barh(names, [rung.model_bytes / 1e6 for rung in ladder.rungs])
    sizes.invert_yaxis()
    sizes.set_xlabel("model file, MB")
    figure.suptitle(f"{ladder.recipe}, built for {ladder.target}")
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise StorageError.from_os(error, path) from error
