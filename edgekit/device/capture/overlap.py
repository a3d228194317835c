"""Preparing the next frame while the one before is inferred."""

import threading
from collections.abc import Sequence
from queue import SimpleQueue

import numpy as np

from edgekit.device.answer import Answerer
from edgekit.device.capture.cores import pin
from edgekit.device.capture.supply import Supply
from edgekit.device.frame import Frame
from edgekit.errors import ImageError

_BUFFERS = 2
"""One that is prepared, one that is inferred."""


class Ahead:
    """A thread that takes frames from a supply and prepares them. Use `start` and `stop`."""

    def __init__(self, supply: Supply, answerer: Answerer, cores: Sequence[int] = ()) -> None:
        """Allocate the buffers.

        Args:
            supply: started by its owner.
            answerer: whose `ahead` is called; this thread's alone.
            cores: on which the thread may run; empty: on all.
        """
        self._cores = cores
        self._supply, self._answerer = supply, answerer
        self._room: SimpleQueue[np.ndarray | None] = SimpleQueue()
        self._ready: SimpleQueue[tuple[Frame | None, np.ndarray | None]] = SimpleQueue()
        self._error: BaseException | None = None
        self._using: np.ndarray | None = None
        for _ in range(_BUFFERS):
            self._room.put(np.zeros(answerer.staging_shape, np.uint8))
        self._thread = threading.Thread(target=self._work, name="prepare", daemon=True)

    def start(self) -> None:
        """Begin to prepare."""
        self._thread.start()

    def take(self) -> tuple[Frame | None, np.ndarray | None]:
        """The next frame and what was made of it; the buffer is used anew by the next `take`.

        Without a buffer, the frame could not be prepared here, and answering it says why.

        Raises:
            EdgekitError: as the supply raises it.
        """
        if self._using is not None:
            self._room.put(self._using)
            self._using = None
        frame, self._using = self._ready.get()
        if frame is None:
            self._ready.put((None, None))  # the end stays the end
            if self._error is not None:
                raise self._error
        return frame, self._using

    def stop(self) -> None:
        """End the thread; the supply was stopped before."""
        self._room.put(None)
        if self._thread.ident is not None:
            self._thread.join(1)
        while not self._ready.empty():
            frame, _ = self._ready.get()
            if frame is not None:
                frame.release()

    def _work(self) -> None:
        pin(self._cores)
        try:
            while (buffer := self._room.get()) is not None:
                frame = self._supply.take()
                if frame is None:
                    break
                try:
                    self._answerer.ahead(frame, buffer)
                except ImageError:  # told where the frame is answered
                    self._room.put(buffer)
                    self._ready.put((frame, None))
                else:
                    self._ready.put((frame, buffer))
        except BaseException as failure:  # raised again in the main thread, by `take`
            self._error = failure
        self._ready.put((None, None))
