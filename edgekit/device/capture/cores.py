"""Which processor cores a thread may use."""

import os
import sys
from collections.abc import Sequence

_ALLOWED = frozenset(os.sched_getaffinity(0)) if sys.platform == "linux" else frozenset[int]()
"""What this process was started with: `taskset` or a container may have taken some away."""


def alone() -> bool:
    """Whether this process has one core only."""
    return (len(_ALLOWED) if sys.platform == "linux" else os.cpu_count()) == 1


def pin(cores: Sequence[int], thread: int = 0) -> None:
    """Keep a thread, and those that it starts from now on, on `cores`.

    Cores that are not to be had here are ignored; with none left, and other than on Linux, the
    thread runs on all that this process was given.

    Args:
        cores: from 0; empty: all.
        thread: its number, or that of a process; 0: the calling thread.
    """
    if sys.platform == "linux":
        os.sched_setaffinity(thread, _ALLOWED.intersection(cores) or _ALLOWED)
