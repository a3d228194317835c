"""`shm://NAME`: frames that another process publishes, read where it wrote them.

`edgekit/device/publish.py` is the other side; `edgekit/device/shared.py` says how the memory lies.
"""

import sys
import threading
import time
from functools import partial

from edgekit.device.copies import Copies
from edgekit.device.frame import Frame, Kind
from edgekit.device.missing import Missing
from edgekit.device.picture import Layout
from edgekit.device.shared import CAPTURED, SEQUENCE, STATE, open_existing, path_of
from edgekit.device.uri import Uri
from edgekit.errors import SourceUnavailable, SpecError

_LOOK_S = 0.1  # between two looks whether the publisher lives, and whether we are closed


def open_camera(uri: Uri) -> "SharedFrames":
    """The frames that a process publishes as NAME.

    Option: `deadline`, the seconds that a frame may take (5).

    Raises:
        SpecError: NAME is no name.
        SourceUnavailable: nobody publishes it, or it may not be read.
    """
    uri.only("deadline")
    return SharedFrames(uri.place, uri.number("deadline", 5, 0.01, 3600))


def missing() -> Missing | None:
    """Linux: the memory is shared as it does."""
    return None if sys.platform.startswith("linux") else Missing("Linux")


class SharedFrames:
    """A live camera in another process. A lent frame is not written anew until it is released.

    `close` may come from any thread; a read that waits ends.
    """

    kind: Kind = "live"

    def __init__(self, name: str, deadline_s: float) -> None:
        """Map the frames; only those count that are published from now on.

        Raises:
            SpecError: it is no name.
            SourceUnavailable: nobody publishes it, or it may not be read.
        """
        self.deadline_s = deadline_s
        self.copies = Copies()
        self._name = f"shm://{name}"
        path = path_of(name)
        try:
            self._shared = open_existing(path)
        except FileNotFoundError as error:
            raise SourceUnavailable(
                f"nobody publishes {self._name}; start the program that does (see "
                "edgekit.device.publish)"
            ) from error
        except (OSError, SpecError) as error:
            raise SourceUnavailable(f"{self._name} cannot be read: {error}") from error
        self._count, _ = self._shared.newest
        self._last = -1
        self._closed = False
        self._lent = 0
        self._changing = threading.Lock()
        self._reading = threading.Lock()
        self._first: tuple[int, int] | None = None  # sequence and time of the first frame

    @property
    def fd(self) -> int:
        """The file of the frames."""
        return self._shared.fd

    @property
    def regions(self) -> tuple[tuple[int, int], ...]:
        """(offset, bytes) of each slot."""
        shared = self._shared
        return tuple((shared.offset(n), shared.layout.nbytes) for n in range(shared.slots))

    @property
    def layout(self) -> Layout:
        """Of the picture in each slot."""
        return self._shared.layout

    def read(self) -> Frame | None:
        """Wait for the newest frame that was not read yet; None after `close`.

        Raises:
            SourceUnavailable: the publisher ended, or published nothing within the deadline.
        """
        with self._reading:
            until = time.monotonic() + self.deadline_s
            while not self._closed:
                count, slot = self._shared.newest
                if count == self._count:
                    self._wait(count, until)
                elif self._shared.lock(1 + slot, exclusive=False):
                    self._count = count
                    frame = self._lend(slot)
                    if frame is not None:
                        return frame
                # else it is being written again, so there is a newer one
        self._let_go()
        return None

    def close(self) -> None:
        """Leave the frames; closing again does nothing. Frames that are lent stay valid."""
        self._closed = True
        if self._reading.acquire(timeout=1.0):
            self._reading.release()
        self._let_go()

    def _wait(self, count: int, until: float) -> None:
        left = until - time.monotonic()
        self._shared.wait(count, max(min(left, _LOOK_S), 0.0))
        if self._shared.newest[0] != count or self._closed:
            return
        if not self._shared.alive:
            raise SourceUnavailable(
                f"the publisher of {self._name} ended, after frame {count}; start it again"
            )
        if left <= 0:
            raise SourceUnavailable(
                f"the publisher of {self._name} lives, but gave no frame for {self.deadline_s:g} s"
            )

    def _lend(self, slot: int) -> Frame | None:
        """The frame in a slot that we have locked; None if it is not whole, or was read before.

        Between our look at what is newest and the lock, the slot may have been written again: then
        we lend a frame that is newer still, and meet it once more as the newest.
        """
        row = self._shared.slot[slot]
        sequence, captured_ns = int(row[SEQUENCE]), int(row[CAPTURED])
        if row[STATE] % 2 or sequence == self._last:
            self._shared.unlock(1 + slot)
            return None
        self._last = sequence
        self._first = self._first or (sequence, captured_ns)
        with self._changing:
            self._lent += 1
        time_s = (captured_ns - self._first[1]) / 1e9
        release = partial(self._release, slot)
        number = sequence - self._first[0]
        return Frame(self._shared.picture(slot), number, captured_ns, time_s, release, slot=slot)

    def _release(self, slot: int) -> None:
        self._shared.unlock(1 + slot)
        with self._changing:
            self._lent -= 1
        self._let_go()

    def _let_go(self) -> None:
        """Close the file, once nobody reads and no frame is lent: its locks end with it."""
        with self._changing:
            if self._closed and not self._lent:
                self._shared.close()
