"""What a run leaves to look at: CSV files and TensorBoard's, the same after any interruption.

NAME.csv          one line an epoch, written anew from the run's state
NAME.steps.csv    one line each so many steps; what an interrupted run had done beyond its
                  last save is cut off when it goes on, for it is done again
tensorboard/NAME/ the same for TensorBoard, made anew from the two when a run goes on
"""

import csv
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from edgekit.checkpoint import replace_files
from edgekit.errors import StorageError
from edgekit.learn.train.lesson import Point

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

POINTS = 50
"""Steps an epoch that are written down, at most."""
STEP_COLUMNS = ("step", "loss", "rate", "gradient_norm")
EPOCH_COLUMNS = ("epoch", "loss", "rate", "top1", "seconds", "images_per_s")


class Log:
    """Keeps a run's files while it lasts; `close` when it ends."""

    def __init__(self, folder: Path, name: str) -> None:
        """Write files called `name` in `folder`, which is there."""
        self.epochs, self.points = folder / f"{name}.csv", folder / f"{name}.steps.csv"
        self._board, self._every = folder / "tensorboard" / name, 1
        self._steps, self._rows = 1, list[dict[str, float]]()
        self._file: TextIO | None = None
        self._writer: SummaryWriter | None = None

    def begin(self, steps: int, done: int, rows: list[dict[str, float]]) -> None:
        """The run begins, or goes on: `done` steps are done, of `steps` an epoch.

        Raises:
            StorageError: the files cannot be written.
        """
        self.close()
        self._every, self._steps, self._rows = max(1, -(-steps // POINTS)), steps, list(rows)
        kept = [line for line in read(self.points) if int(line["step"]) <= done]
        replace_files({self.points: _text(STEP_COLUMNS, kept)})
        shutil.rmtree(self._board, ignore_errors=True)
        try:
            self._file = self.points.open("a", encoding="utf-8", newline="")
            self._writer = _board(self._board)
        except OSError as error:
            raise StorageError.from_os(error, self._board) from error
        for line in kept:
            self._show_point(Point(int(line["step"]), *(line[key] for key in STEP_COLUMNS[1:])))
        for row in rows:
            self._show_row(row)
        self._write_epochs()

    def step(self, point: Point) -> None:
        """Write down a point, if it is its turn. Raises StorageError."""
        if point.done % self._every:
            return
        assert self._file is not None
        try:
            csv.writer(self._file, lineterminator="\n").writerow(_cells(point))
            self._file.flush()
        except OSError as error:
            raise StorageError.from_os(error, self.points) from error
        self._show_point(point)

    def epoch(self, row: dict[str, float]) -> None:
        """Write down an epoch. Raises StorageError."""
        self._rows.append(row)
        self._write_epochs()
        self._show_row(row)
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Give the files back."""
        for resource in (self._file, self._writer):
            if resource is not None:
                resource.close()
        self._file = self._writer = None

    def _write_epochs(self) -> None:
        replace_files({self.epochs: _text(EPOCH_COLUMNS, self._rows)})

    def _show_point(self, point: Point) -> None:
        assert self._writer is not None
        for tag, value in (
            ("step/loss", point.loss),
            ("step/learning_rate", point.rate),
            ("step/gradient_norm", point.norm),
        ):
            self._writer.add_scalar(tag, value, point.done)

    def _show_row(self, row: dict[str, float]) -> None:
        assert self._writer is not None
        for tag in ("loss", "top1", "images_per_s"):
            self._writer.add_scalar(f"epoch/{tag}", row[tag], int(row["epoch"]) * self._steps)


def read(path: Path) -> list[dict[str, float]]:
    """The lines of one of the CSV files; a last one that was torn off is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
    found = csv.DictReader(lines)
    return [{key: float(value) for key, value in line.items()} for line in found]


def _cells(point: Point) -> tuple[object, ...]:
    return point.done, point.loss, point.rate, point.norm


def _text(columns: Sequence[str], lines: Sequence[dict[str, float]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for line in lines:
        counts = ("step", "epoch")  # whole numbers
        writer.writerow({k: int(v) if k in counts else v for k, v in line.items()})
    return text.getvalue().encode()


def _board(folder: Path) -> "SummaryWriter":
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))
