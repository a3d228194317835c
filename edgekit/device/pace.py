"""Play recorded or made-up frames by the clock, as a camera would give them."""

import threading
import time
from typing import Literal, TypeAlias, cast

from edgekit.device.uri import Uri

Pace: TypeAlias = Literal["fast", "realtime"]


def pace_of(uri: Uri, default: Pace) -> Pace:
    """The option `pace`.

    `fast` gives each frame when it is asked for, and each is used; `realtime` gives it at its time,
    the latest wins, and drops are counted.
    """
    return cast(Pace, uri.choice("pace", ("fast", "realtime"), default))


class Clock:
    """Turns a source's own time into moments of `time.monotonic_ns()`; starts at its first use."""

    def __init__(self, pace: Pace) -> None:
        self._realtime = pace == "realtime"
        self._start_ns: int | None = None
        self._stopped = threading.Event()

    def capture(self, time_s: float) -> int:
        """Wait until the frame at `time_s` is due; returns when it was captured, in ns.

        By the clock that is the moment it was due, so that a source which cannot keep up shows in
        the frame age. Otherwise it is now.
        """
        now = time.monotonic_ns()
        if not self._realtime:
            return now
        if self._start_ns is None:
            self._start_ns = now - int(time_s * 1e9)
        due = self._start_ns + int(time_s * 1e9)
        if due > now:
            self._stopped.wait((due - now) / 1e9)
        return due

    def wait(self, seconds: float) -> None:
        """Wait by either pace, and let the source's own time stand still meanwhile."""
        self._stopped.wait(seconds)
        if self._start_ns is not None:
            self._start_ns += int(seconds * 1e9)

    def stop(self) -> None:
        """Wait no more: whoever waits in another thread returns at once."""
        self._stopped.set()
