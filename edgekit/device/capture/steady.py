"""A camera that comes back: opened again when it stalls, goes away or changes its format."""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from edgekit.device.copies import Copies
from edgekit.device.frame import Camera, Frame, Kind, nothing
from edgekit.errors import SourceUnavailable

LIMIT = 5
"""Restarts within `MINUTE_S`; one more ends the run, so that whoever watches it (systemd) sees."""
MINUTE_S = 60.0
PATIENCE_S = 30.0
"""How long a camera that is gone is waited for."""
_LOOK_S = 0.2
"""How often it is looked for meanwhile; within half a second of coming back it is used."""
_BACKOFF_S = (0.0, 0.2, 0.4, 0.8, 1.6)
"""Pause before the first, second ... restart within a minute."""


class Steady:
    """A live camera that is opened again when it fails.

    The sequence numbers go on where they stopped, and time goes on as it was; what the camera made
    while it was gone is not known and not counted. One thread reads; another may `stop` it.
    """

    def __init__(
        self,
        open_camera: Callable[[], Camera],
        camera: Camera | None = None,
        say: Callable[[str], None] | None = None,
        patience_s: float = PATIENCE_S,
        done: Callable[[], None] = nothing,
    ) -> None:
        """Open the camera.

        Args:
            open_camera: opens it, now and again after each failure.
            camera: if it is open already.
            say: told of each failure, a sentence; without it they go to stderr.
            patience_s: how long a camera that is gone is waited for.
            done: called when this camera is closed.

        Raises:
            EdgekitError: as `open_camera` raises it the first time.
        """
        self._open, self._say, self._patience_s = open_camera, say or _to_stderr, patience_s
        self._camera = camera or open_camera()
        self._done = done
        self._stopped = threading.Event()
        self._reading = False
        self._restarted: deque[float] = deque()
        self._past = Copies()
        self._first = self._next = 0
        self._fresh, self._start_ns = True, 0
        self.restarts = 0

    @property
    def kind(self) -> Kind:
        """As the camera's."""
        return self._camera.kind

    @property
    def deadline_s(self) -> float:
        """Endless: this camera ends its own waiting."""
        return float("inf")

    @property
    def copies(self) -> Copies:
        """Of the camera, and of those before it."""
        merged = Copies()
        for counter in (self._past, self._camera.copies):
            merged.include(counter)
        return merged

    @property
    def camera(self) -> Camera:
        """The one that is open now."""
        return self._camera

    def read(self) -> Frame | None:
        """The newest frame; None at the end of the source.

        Raises:
            SourceUnavailable: it failed too often within a minute, or did not come back.
        """
        self._reading = True
        try:
            while True:
                try:
                    frame = self._camera.read()
                except SourceUnavailable as error:
                    self._restart(error)
                else:
                    return frame if frame is None else self._numbered(frame)
        finally:
            self._reading = False

    def stop(self) -> None:
        """Wait no longer for a camera that is gone; from any thread."""
        self._stopped.set()

    def close(self) -> None:
        """Close the camera; one that hangs in a read is left to the end of the process."""
        self.stop()
        if not self._reading:
            self._camera.close()
            self._done()

    def _numbered(self, frame: Frame) -> Frame:
        if self._fresh:
            self._first, self._fresh = self._next - frame.sequence if self.restarts else 0, False
        self._start_ns = self._start_ns or frame.captured_ns
        frame.sequence += self._first
        self._next = frame.sequence + 1
        if self.restarts:
            frame.time_s = (frame.captured_ns - self._start_ns) / 1e9
        return frame

    def _restart(self, error: SourceUnavailable) -> None:
        if self._stopped.is_set():
            raise error
        now = time.monotonic()
        while self._restarted and now - self._restarted[0] > MINUTE_S:
            self._restarted.popleft()
        if len(self._restarted) >= LIMIT:
            raise SourceUnavailable(
                f"{error} (it was started again {LIMIT} times within a minute, which is the limit)"
            ) from error
        self._say(f"{error}; starting it again")
        self._past.include(self._camera.copies)
        self._camera.close()
        self._reopen(error, _BACKOFF_S[len(self._restarted)])
        self._restarted.append(time.monotonic())
        self.restarts += 1
        self._fresh = True

    def _reopen(self, error: SourceUnavailable, pause_s: float) -> None:
        until = time.monotonic() + self._patience_s
        while not self._stopped.wait(pause_s):
            try:
                self._camera = self._open()
            except SourceUnavailable as again:
                if time.monotonic() > until:
                    raise SourceUnavailable(
                        f"{again} (waited {self._patience_s:g} s for it to come back)"
                    ) from again
                pause_s = _LOOK_S
            else:
                return
        raise error


def _to_stderr(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)
