"""How far long work is: a bar on a terminal, plain lines everywhere else; both on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from edgekit.learn.watch import Watch

EVERY_S = 60.0
"""Between two lines about one task, where there is no bar."""


class _Nobody:
    """Is not interested: another process tells the same."""

    def step(self, task: str, done: int, total: int, note: str = "") -> None:
        pass

    def line(self, text: str) -> None:
        pass


class _Log:
    """Lines on stderr, for a log file; about a task that lasts, one now and then."""

    def __init__(self) -> None:
        self._task, self._began, self._first, self._said = "", 0.0, 0, 0.0
        self._done = 0

    def step(self, task: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if task != self._task or done < self._done:  # less than before: the next seed's
            self._task, self._began, self._first, self._said = task, now, done, now
        self._done = done
        if now - self._said < EVERY_S or done == self._first:
            return
        self._said = now
        left = (now - self._began) / (done - self._first) * (total - done)
        self.line(f"{task}: {done}/{total}, {_time(left)} left{f', {note}' if note else ''}")

    def line(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def watching(loud: bool = True) -> Iterator[Watch]:
    """Lend a `Watch` for the time of one task; `loud` is false in all processes but the first."""
    if not loud:
        yield _Nobody()
        return
    if not sys.stderr.isatty():
        yield _Log()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=600) as progress:
        tasks: dict[str, TaskID] = {}

        class Bar:
            def step(self, task: str, done: int, total: int, note: str = "") -> None:
                if task not in tasks:
                    tasks[task] = progress.add_task(task, completed=done, total=total, note=note)
                elif done < progress.tasks[tasks[task]].completed:  # the next seed's
                    progress.reset(tasks[task])
                progress.update(tasks[task], completed=done, total=total, note=note)

            def line(self, text: str) -> None:
                progress.console.print(text, highlight=False, markup=False)

        yield Bar()


def _time(seconds: float) -> str:
    """`2 h 5 min`, `12 min`, `40 s`."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes >= 2 else f"{round(seconds)} s"
