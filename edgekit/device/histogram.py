"""Percentiles of any number of durations in a fixed 16 KB."""

import math

import numpy as np

_LOWEST_NS = 1_000.0
_GROWTH = math.log(1.01)
_BUCKETS = 2_090  # 1.01 ** 2090 * 1 us is past 1,000 s


class Histogram:
    """Durations in buckets 1 % wide, from 1 us to 1,000 s. One thread adds.

    `count`, `mean_ms` and `highest_ns` are exact. A percentile is at most 1 % too high, never too
    low, never above the highest; durations below 1 us count as 1 us.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, np.int64)
        self._sum_ns = 0
        self.count = 0
        self.highest_ns = 0

    def add(self, duration_ns: int) -> None:
        """Add one duration, nanoseconds."""
        place = int(math.log(max(duration_ns, _LOWEST_NS) / _LOWEST_NS) / _GROWTH)
        self._counts[min(place, _BUCKETS - 1)] += 1
        self._sum_ns += duration_ns
        self.count += 1
        self.highest_ns = max(self.highest_ns, duration_ns)

    @property
    def mean_ms(self) -> float:
        """Exact mean, ms; 0 without durations."""
        return self._sum_ns / self.count / 1e6 if self.count else 0.0

    def percentile_ms(self, percent: float) -> float:
        """The duration that `percent` % of all are at or below, ms; 0 without durations.

        Args:
            percent: above 0, at most 100.
        """
        if not self.count:
            return 0.0
        rank = max(math.ceil(self.count * percent / 100.0), 1)
        place = int(np.searchsorted(np.cumsum(self._counts), rank))
        upper_ns = _LOWEST_NS * math.exp(_GROWTH * (place + 1))
        return min(upper_ns, float(self.highest_ns)) / 1e6
