"""What a run leaves to look at: the same after an interruption."""

from pathlib import Path

from edgekit.learn.train.lesson import Point
from edgekit.learn.train.log import Log, read
from edgekit.learn.train.plot import plot


def row(epoch: int) -> dict[str, float]:
    return {
        "epoch": epoch,
        "loss": 1 / epoch,
        "rate": 0.1,
        "top1": 0.5,
        "seconds": 2.0,
        "images_per_s": 9.0,
    }


def points(first: int, last: int) -> list[Point]:
    return [Point(n, 1 / n, 0.1, float("nan") if n == 2 else 2.0) for n in range(first, last + 1)]


def scalars(folder: Path, tag: str) -> list[int]:
    """The steps that TensorBoard's own reader finds."""
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    found = EventAccumulator(str(folder))
    found.Reload()
    return [event.step for event in found.Scalars(tag)]


def test_steps_that_are_done_again_stand_there_once(tmp_path: Path) -> None:
    whole = Log(tmp_path / "whole", "fit")
    (tmp_path / "whole").mkdir()
    whole.begin(4, 0, [])
    for point in points(1, 8):
        whole.step(point)
        if point.done % 4 == 0:
            whole.epoch(row(point.done // 4))
    whole.close()

    (tmp_path / "cut").mkdir()
    first = Log(tmp_path / "cut", "fit")
    first.begin(4, 0, [])
    for point in points(1, 4):
        first.step(point)
    first.epoch(row(1))
    for point in points(5, 7):
        first.step(point)
    with first.points.open("a") as file:
        file.write("8,0.1")  # killed in the middle of a line
    second = Log(tmp_path / "cut", "fit")
    second.begin(4, 5, [row(1)])
    for point in points(6, 8):
        second.step(point)
    second.epoch(row(2))
    second.close()
    first.close()

    for name in ("fit.csv", "fit.steps.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for folder in ("whole", "cut"):
        board = tmp_path / folder / "tensorboard" / "fit"
        assert scalars(board, "step/loss") == list(range(1, 9))
        assert scalars(board, "epoch/top1") == [4, 8]


def test_of_many_steps_some_are_written_down(tmp_path: Path) -> None:
    log = Log(tmp_path, "fit")
    log.begin(1000, 0, [])
    for point in points(1, 100):
        log.step(point)
    log.close()
    assert [int(line["step"]) for line in read(log.points)] == [20, 40, 60, 80, 100]


def test_equal_runs_are_drawn_in_equal_bytes(tmp_path: Path) -> None:
    lines = [{"step": float(n), "loss": 1 / n, "rate": 0.1 / n} for n in range(1, 9)]
    for name in ("one.svg", "other.svg"):
        plot(tmp_path / name, "a run", lines, [row(1), row(2)], 4)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()
