"""Work that is done ahead by threads, and handed over in order."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

MOST_THREADS = 8
"""More bring nothing: what Python itself does for an image happens in one thread at a time."""


def threads_here(processes: int = 1) -> int:
    """Threads for a loader, where `processes` share the machine: half the cores it may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(MOST_THREADS, (cores or 1) // (2 * processes)))


def in_order(
    make: Callable[[T], R], items: Iterable[T], threads: int, ahead: int, name: str = "ahead"
) -> Iterator[R]:
    """`make` of each item, in their order, by `threads` threads.

    At most `ahead` results wait beyond the one that is used, so memory is bounded however many
    items there are; `items` is read by the thread that asks. Where the caller stops early, what has
    begun is finished and the rest left. An exception of `make` is raised here, at its item.
    """
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    try:
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
