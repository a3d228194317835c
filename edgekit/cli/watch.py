"""How far long work is: a bar on a terminal, plain lines everywhere else; both on stderr."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Watch(Protocol):
    """Whoever wants to know how far it is."""

    def step(self, task: str, done: int, total: int) -> None:
        """`done` of `total` steps of `task` are done."""

    def line(self, text: str) -> None:
        """Something worth a line in a log."""


class _Log:
    """Lines on stderr, for a log file."""

    def step(self, task: str, done: int, total: int) -> None:
        pass

    def line(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def watching() -> Iterator[Watch]:
    """Lend a `Watch` for the time of one task."""
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
