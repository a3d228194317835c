"""The last minute of a run, second by second, in memory that does not grow."""

import time
from dataclasses import dataclass

import numpy as np

SECONDS = 60
_SLOTS = 64  # a few more than a minute: one is written while the others are read
_AGES = 256


@dataclass(frozen=True, slots=True)
class Second:
    """One second of the run."""

    answers: int
    p50_ms: float | None
    """Of the frames' ages; None without an answer."""
    p95_ms: float | None


class History:
    """Counts answers and keeps frame ages; of a second with more than 256, the ages of the last.

    One thread adds, another reads.
    """

    def __init__(self) -> None:
        self._ages = np.zeros((_SLOTS, _AGES), np.float32)
        self._counts = [0] * _SLOTS
        self._of = [-1] * _SLOTS
        """Which second each slot holds."""
        self._first = -1
        self._done: dict[int, Second] = {}

    def add(self, age_ms: float) -> None:
        """Count one answer, now."""
        second = time.monotonic_ns() // 1_000_000_000
        slot = second % _SLOTS
        if self._of[slot] != second:
            self._counts[slot] = 0
            self._of[slot] = second
            if self._first < 0:
                self._first = second
        self._ages[slot, self._counts[slot] % _AGES] = age_ms
        self._counts[slot] += 1

    def recent(self) -> list[Second | None]:
        """The last 60 whole seconds, oldest first; None before the first whole one of the run."""
        now = time.monotonic_ns() // 1_000_000_000
        wanted = range(now - SECONDS, now)
        self._done = {s: self._done.get(s) or self._sum_up(s) for s in wanted if s > self._first}
        return [self._done.get(s) if self._first >= 0 else None for s in wanted]

    def _sum_up(self, second: int) -> Second:
        slot = second % _SLOTS
        if self._of[slot] != second:
            return Second(0, None, None)
        count = self._counts[slot]
        p50, p95 = np.percentile(self._ages[slot, : min(count, _AGES)], (50, 95))
        return Second(count, round(float(p50), 3), round(float(p95), 3))
