"""A run as a picture: loss, top-1 and learning rate over its epochs."""

import io
from collections.abc import Sequence
from pathlib import Path

from edgekit.checkpoint import replace_files


def plot(
    path: Path,
    title: str,
    points: Sequence[dict[str, float]],
    rows: Sequence[dict[str, float]],
    steps: int,
) -> None:
    """Draw a run as an SVG.

    Args:
        path: the file to write.
        title: above the picture.
        points: `step`, `loss`, `rate`, as `log` keeps them.
        rows: one an epoch, as `Listener.epoch` has them.
        steps: an epoch.

    Raises:
        StorageError: `path` cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 7), layout="constrained")
    loss, top1, rate = figure.subplots(3, sharex=True)
    figure.suptitle(title)
    epochs = [row["epoch"] for row in rows]
    at = [point["step"] / steps for point in points]
    loss.plot(at, [point["loss"] for point in points], linewidth=0.5, alpha=0.4, label="step")
    loss.plot(epochs, [row["loss"] for row in rows], marker=".", label="mean of the epoch")
    loss.set(ylabel="loss")
    loss.legend()
    top1.plot(epochs, [100 * row["top1"] for row in rows], marker=".", color="tab:green")
    top1.set(ylabel="top-1 in %")
    rate.plot(at, [point["rate"] for point in points], color="tab:orange")
    rate.set(ylabel="learning rate", xlabel="epoch")
    for axes in (loss, top1, rate):
        axes.grid(alpha=0.3)
    with matplotlib.rc_context({"svg.hashsalt": "edgekit"}):  # equal runs, equal bytes
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    replace_files({path: content.getvalue()})
