"""Ctrl-C and SIGTERM wait for the end of a step, so that what is saved is never half a step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Interrupts:
    """Signals that raise; see `interruptible`."""

    def __init__(self) -> None:
        self.torn = False
        """Whether one has ended a step in its middle: what is in memory is not to be saved."""
        self._before: dict[int, object] = {}
        self._held = False
        self._waiting: tuple[int, FrameType | None] | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """While the block lasts, the first signal waits; it is raised at the end of the block."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            self._pass_on(*waiting)

    def _came(self, number: int, frame: FrameType | None) -> None:
        if self._held and self._waiting is None:
            self._waiting = (number, frame)
            return
        self.torn = self.torn or self._held  # the second one does not wait
        self._pass_on(number, frame)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        before = self._before[number]
        assert callable(before)
        before(number, frame)


@contextmanager
def interruptible() -> Iterator[Interrupts]:
    """While the block lasts, signals that have a handler in Python can be held back.

    In another thread than the main one, where Python delivers no signals, nothing changes.
    """
    interrupts = Interrupts()
    if threading.current_thread() is threading.main_thread():
        found = {number: signal.getsignal(number) for number in _SIGNALS}
        interrupts._before = {n: before for n, before in found.items() if callable(before)}
    try:
        for number in interrupts._before:
            signal.signal(number, interrupts._came)
        yield interrupts
    finally:
        for number, before in interrupts._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]
