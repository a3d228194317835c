"""Frames between two threads: preallocated memory, and the hand-over from one to the other.

Nothing is copied on the way, and what waits is bounded. Of a live camera at most three frames are
alive (one being captured, one waiting, one in use), so latency does not grow with load: what is too
slow drops frames, and they are counted.
"""

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

import numpy as np

from edgekit.device.frame import Camera, Frame
from edgekit.errors import SourceUnavailable

ALIVE = 3
"""Of a live camera: one frame being captured, one waiting, one in use."""
AHEAD = 3
"""Of a file: frames decoded ahead, so that a decoder which gets its turn late holds nobody up."""


class Slots:
    """Memory for `ALIVE` frames of one shape, allocated once and lent in turn. Thread-safe."""

    def __init__(self, shape: tuple[int, ...], count: int = ALIVE) -> None:
        self._free = [np.zeros(shape, np.uint8) for _ in range(count)]

    def take(self) -> tuple[np.ndarray, Callable[[], None]]:
        """A free slot and the call that gives it back."""
        assert self._free, "more frames are alive than there are slots: one was not released"
        slot = self._free.pop()
        return slot, lambda: self._free.append(slot)


class Latest:
    """One waiting frame of a live camera; a newer one takes its place, and it is dropped."""

    def __init__(self) -> None:
        self.first = -1
        """Sequence number of the first frame that was put; -1 before."""
        self.ended = False
        self._changed = threading.Condition()
        self._waiting: Frame | None = None
        self._error: BaseException | None = None

    def put(self, frame: Frame) -> None:
        """Hand over a frame, without waiting; after the end it is released at once."""
        with self._changed:
            if self.first < 0:
                self.first = frame.sequence
            if self.ended:
                unused: Frame | None = frame
            else:
                unused, self._waiting = self._waiting, frame
            self._changed.notify()
        if unused is not None:
            unused.release()

    def take(self, deadline_s: float) -> Frame | None:
        """Wait for a frame; None at the end of the source. The caller releases it.

        Raises:
            SourceUnavailable: nothing came within `deadline_s` seconds.
            BaseException: what the capture thread failed with, once the frame before is used.
        """
        with self._changed:
            self.wait(deadline_s)
            frame, self._waiting = self._waiting, None
            if frame is None and self._error is not None:
                raise self._error
            return frame

    def wait(self, deadline_s: float) -> None:
        """Wait until a frame waits or the source has ended.

        Raises:
            SourceUnavailable: nothing came within `deadline_s` seconds.
        """
        until = time.monotonic() + deadline_s
        with self._changed:
            while self._waiting is None and not self.ended:
                left = until - time.monotonic()
                if left <= 0:
                    raise SourceUnavailable(
                        f"the source gave no frame for {deadline_s:g} s; "
                        "check its cable and power, then start again"
                    )
                self._changed.wait(min(left, 3600.0))

    def end(self, error: BaseException | None = None) -> None:
        """Say that no more frames come, and why if it is for an error."""
        with self._changed:
            self.ended = True
            self._error = error
            self._changed.notify()

    def stop(self) -> None:
        """End from the taking side: a frame that waits is released."""
        with self._changed:
            self.ended = True
            unused, self._waiting = self._waiting, None
            self._changed.notify_all()
        if unused is not None:
            unused.release()


class Every:
    """Up to `AHEAD` waiting frames of a file; `put` waits for room, so each is used.

    Two queues, frames one way and room for them the other, and no lock around both: a decoder that
    is woken while it holds a lock, and then waits for a core, would stop the inference too.
    """

    def __init__(self) -> None:
        self.first = -1
        self.ended = False
        self._room: SimpleQueue[None] = SimpleQueue()
        self._waiting: SimpleQueue[Frame | None] = SimpleQueue()
        self._error: BaseException | None = None
        for _ in range(AHEAD):
            self._room.put(None)

    def put(self, frame: Frame) -> None:
        """Hand over a frame when there is room; after the end it is released at once."""
        self._room.get()
        if self.first < 0:
            self.first = frame.sequence
        if self.ended:
            frame.release()
        else:
            self._waiting.put(frame)

    def take(self, deadline_s: float) -> Frame | None:
        """Wait for a frame, however long; None at the end of the source. The caller releases it.

        Raises:
            BaseException: what the capture thread failed with, once the frames before are used.
        """
        frame = self._waiting.get()
        if frame is None:
            self._waiting.put(None)  # the end stays the end
            if self._error is not None:
                raise self._error
            return None
        self._room.put(None)
        return frame

    def end(self, error: BaseException | None = None) -> None:
        """Say that no more frames come, and why if it is for an error."""
        self._error = error
        self._waiting.put(None)

    def stop(self) -> None:
        """End from the taking side: frames that wait are released; again, for one put meanwhile."""
        self.ended = True
        self._room.put(None)
        while True:
            try:
                frame = self._waiting.get_nowait()
            except Empty:
                break
            if frame is not None:
                frame.release()
        self._waiting.put(None)


class Direct:
    """No hand-over: who takes a frame reads the camera itself.

    For one that another process reads (the newest frame waits over there, and is sent when asked),
    and for a file on one core.
    """

    def __init__(self, camera: Camera) -> None:
        """Read `camera`."""
        self.first = -1
        self.ended = False
        self._camera = camera

    def take(self, deadline_s: float) -> Frame | None:
        """The newest frame; None at the end of the source. The caller releases it.

        Raises:
            SourceUnavailable: as the camera raises it, by its own deadline.
        """
        frame = self._camera.read()
        if frame is not None and self.first < 0:
            self.first = frame.sequence
        return frame

    def stop(self) -> None:
        """Nothing waits here."""
        self.ended = True
