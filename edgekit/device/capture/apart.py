"""Capture in a process of its own: this side of it. The other side is `process.py`.

A runtime that holds Python's lock while it infers cannot starve it, and a driver that hangs takes
nobody with it: the process is killed and another one started. No frame is copied on the way where
the camera's memory can be mapped (`Shareable`): the process passes the file descriptor of its
driver's buffers over, and this side maps the same pages. Frames of other cameras are copied once,
into memory that both map, and the copy is counted.

The two speak over a socket. Nothing is sent unasked: this side says that it wants a frame, and is
given the newest; and says which it is done with.
"""

import contextlib
import json
import mmap
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from functools import partial

from edgekit.device.capture.cores import pin
from edgekit.device.child import command, from_news
from edgekit.device.copies import Copies
from edgekit.device.copies import Kind as CopyKind
from edgekit.device.frame import Frame, Kind
from edgekit.device.picture import Layout, Picture
from edgekit.device.shown import shown
from edgekit.errors import EdgekitError, SourceUnavailable

REASONS = 6
FRAME = struct.Struct(f"<cxHIQqdq{REASONS}q")
"""`F`, slot, bytes used, sequence, captured ns, time s, ns that reading took, bytes copied."""
ASK = struct.Struct("<cxH")
"""`W` (a frame is wanted) or `R` (released) and the slot."""
LONGEST = 16_384
"""Of a message: the hello is the longest. To the process, besides `ASK`, goes `O` with the source;
from it, besides `F`, `H` (the hello), `K` (what the counted bytes are), `X` (an error), each with
JSON, and `E` (the end)."""

_PROGRAM = "from edgekit.device.capture.process import serve; serve(int(sys.argv[2]))"
_START_S = 20.0
"""For a slow board to start Python and open the camera; the camera's own deadlines are shorter."""
_SLACK_S = 0.25
"""Beyond the camera's deadline, for its process to tell that it failed."""


def possible() -> bool:
    """Whether this system can pass memory from process to process as needed: Linux can."""
    return sys.platform == "linux"


class Standby:
    """A process that has imported all that it needs and waits to be told its source."""

    def __init__(self, cores: Sequence[int] = ()) -> None:
        """Start it; it is ready some tenths of a second later, on a small board a second.

        Args:
            cores: on which it may run; empty: on all.
        """
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                command(_PROGRAM, str(theirs.fileno())),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=2,  # stdout is for answers
                start_new_session=True,  # Ctrl-C is for us, who then end it
            )
        pin(cores, self.process.pid)

    def close(self) -> None:
        """End it, also when it is stopped or hangs in a driver."""
        self.socket.close()
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1)


class Opener:
    """Opens a camera apart, and again after it failed, by a process that stands by if there is one.

    A camera that has been silent for half its deadline has one started; and the process that could
    not open a camera stays to try again.
    """

    def __init__(self, cores: Sequence[int] = ()) -> None:
        """Keep the cores on which capture may run; empty: all."""
        self._cores = cores
        self._standby: Standby | None = None
        self._last: Apart | None = None

    def __call__(self, text: str) -> "Apart":
        """Open the source `text`.

        Raises:
            EdgekitError: as opening it raises it in the other process.
            SourceUnavailable: that process died or does not answer.
        """
        again = self._last is not None
        standby, self._standby = self._taken() or Standby(self._cores), None
        try:
            self._last = Apart(text, standby, self._cores)
        except _NotOpened as refused:
            if again:
                self._standby = standby
            else:
                standby.close()
            raise refused.why from None
        return self._last

    def close(self) -> None:
        """End what stands by; closing again does nothing."""
        standby, self._standby = self._taken(), None
        if standby is not None:
            standby.close()

    def _taken(self) -> Standby | None:
        """What the camera before has left, or the last attempt."""
        if self._standby is None and self._last is not None:
            self._standby, self._last.standby = self._last.standby, None
        return self._standby


class _NotOpened(Exception):
    """The other process could not open the camera, and can be asked again."""

    def __init__(self, why: EdgekitError) -> None:
        super().__init__(str(why))
        self.why = why


class Apart:
    """A live camera that another process reads. One thread reads here."""

    kind: Kind = "live"

    def __init__(self, text: str, process: Standby, cores: Sequence[int] = ()) -> None:
        """Tell the process to open the camera, and wait until it has.

        Args:
            text: the source, as `open_camera` takes it.
            process: it belongs to this camera from now on.
            cores: on which one that stands by for it may run; empty: on all.

        Raises:
            EdgekitError: as `Opener` raises it.
        """
        self.copies = Copies()
        self.read_ns = 0
        """How long the last frame's reading took over there."""
        self.standby: Standby | None = None
        """What may take over; whoever takes it sees to its end."""
        self._name, self._cores, self._other = shown(text), cores, process
        self._maps, self._closed = list[mmap.mmap](), False
        self._pictures: list[Picture] = []
        self._keys: list[tuple[CopyKind, str]] = []
        self._counted = [0] * REASONS
        self._message = bytearray(LONGEST)
        self._socket, self._process = process.socket, process.process
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        try:
            self._tell(b"O" + text.encode())
            self._greet()
        except _NotOpened:
            raise
        except BaseException:
            self.close()
            raise

    def read(self) -> Frame | None:
        """Ask for the newest frame, or the next one; None at the end of the source.

        Raises:
            SourceUnavailable: the camera failed, or its process died or stopped.
        """
        self._send(b"W", 0)
        while True:
            size = self._receive(self.deadline_s + _SLACK_S)
            kind = self._message[:1]
            if kind == b"F":
                if self.standby is not None:  # not needed after all
                    self.standby.close()
                    self.standby = None
                return self._frame()
            if kind == b"E":
                return None
            news = json.loads(bytes(self._message[1:size]))
            if kind == b"K":
                self._keys = news
            else:
                raise from_news(news)

    def close(self) -> None:
        """End the process, which frees the camera; frames that are lent stay readable."""
        if self._closed:
            return
        self._closed = True
        self._other.close()
        # A mapping holds the device open: while one is left, a driver lets nobody else stream.
        self._pictures.clear()
        self._maps.clear()

    def _greet(self) -> None:
        """Take the layout and the memory that the process sends first."""
        self._wait(_START_S)
        hello, descriptors, _, _ = socket.recv_fds(self._socket, LONGEST, 1)
        if not hello:
            raise SourceUnavailable(self._died())
        news = json.loads(hello[1:])
        if hello[:1] == b"X":
            raise _NotOpened(from_news(news))
        self.deadline_s = float(news["deadline_s"])
        self.again = str(news["again"])
        """The source by which the same camera is found later, under another number, too."""
        layout = Layout(**{**news["layout"], "planes": tuple(
            (offset, tuple(shape), tuple(strides))
            for offset, shape, strides in news["layout"]["planes"]
        )})  # fmt: skip
        try:
            self._maps = [
                mmap.mmap(descriptors[0], size, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset)
                for offset, size in news["regions"]
            ]
        finally:
            os.close(descriptors[0])
        self._layout = layout
        self._pictures = [layout.over(memory, layout.nbytes) for memory in self._maps]
        self._releases = [partial(self._release, slot) for slot in range(len(self._maps))]

    def _frame(self) -> Frame:
        _, slot, used, sequence, captured_ns, time_s, self.read_ns, *counts = FRAME.unpack_from(
            self._message
        )
        for n, (kind, reason) in enumerate(self._keys):
            if counts[n] != self._counted[n]:
                self.copies.add(kind, reason, counts[n] - self._counted[n])
                self._counted[n] = counts[n]
        picture = self._picture(slot, used)
        return Frame(picture, sequence, captured_ns, time_s, self._releases[slot], slot=slot)

    def _picture(self, slot: int, used: int) -> Picture:
        if self._layout.format == "MJPEG":
            return self._layout.over(self._maps[slot], used)
        return self._pictures[slot]

    def _release(self, slot: int) -> None:
        if not self._closed:
            with contextlib.suppress(OSError, SourceUnavailable):  # read() will tell
                self._send(b"R", slot)

    def _send(self, what: bytes, slot: int) -> None:
        self._tell(ASK.pack(what, slot))

    def _tell(self, message: bytes) -> None:
        try:
            self._socket.send(message)
        except OSError as error:
            raise SourceUnavailable(self._died()) from error

    def _receive(self, deadline_s: float) -> int:
        if self.standby is None and not self._poll.poll(deadline_s / 2 * 1e3):
            self.standby = Standby(self._cores)
            deadline_s /= 2
        self._wait(deadline_s)
        try:
            size = self._socket.recv_into(self._message)
        except OSError:
            size = 0
        if not size:
            raise SourceUnavailable(self._died())
        return size

    def _wait(self, deadline_s: float) -> None:
        if not self._poll.poll(deadline_s * 1e3):
            raise SourceUnavailable(
                f"the process that reads {self._name} gave nothing for {deadline_s:.2g} s: "
                "it hangs in the camera's driver, or was stopped"
            )

    def _died(self) -> str:
        code = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(0.2)
        why = f"exit code {code}" if code is not None else "it closed its end"
        return f"the process that reads {self._name} ended ({why}); see its messages above"
