"""Whoever wants to know how far a run is."""

from typing import Protocol


class Watch(Protocol):
    """A progress bar, or a log."""

    def step(self, task: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` steps of `task` are done; `note` says how well."""

    def line(self, text: str) -> None:
        """Something worth a line in a log."""
