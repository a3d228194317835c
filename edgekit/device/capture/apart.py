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

from edgekit import errors
from edgekit.device.capture.cores import pin
from edgekit.device.copies import Copies
from edgekit.device.copies import Kind as CopyKind
from edgekit.device.frame import Frame, Kind
from edgekit.device.picture import Layout, Picture
from edgekit.errors import EdgekitError, SourceUnavailable

REASONS = 6
FRAME = struct.Struct(f"<cxHIQqdq{REASONS}q")
"""`F`, slot, bytes used, sequence, captured ns, time s, ns that reading took, bytes copied."""
ASK = struct.Struct("<cxH")
"""`W` (a frame is wanted) or `R` (released) and the slot."""
LONGEST = 16_384
"""Of a message: the hello is the longest. Besides `F` there are `H` (the hello), `K` (what the
counted bytes are), `X` (an error), each with JSON, and `E` (the end)."""

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from edgekit.device.capture.process import serve; serve(int(sys.argv[2]), sys.argv[3])"
)
_START_S = 20.0
"""For a slow board to start Python and open the camera; the camera's own deadlines are shorter."""
_SLACK_S = 0.25
"""Beyond the camera's deadline, for its process to tell that it failed."""


def possible() -> bool:
    """Whether this system can pass memory from process to process as needed: Linux can."""
    return sys.platform == "linux"


class Apart:
    """A live camera that another process reads. One thread reads here."""

    kind: Kind = "live"

    def __init__(self, text: str, cores: Sequence[int] = ()) -> None:
        """Start the process and wait until it has opened the camera.

        Args:
            text: the source, as `open_camera` takes it.
            cores: on which the process may run; empty: on all.

        Raises:
            EdgekitError: as opening the camera raises it there.
            SourceUnavailable: the process died or does not answer.
        """
        self.copies = Copies()
        self.read_ns = 0
        """How long the last frame's reading took over there."""
        self._text, self._maps, self._closed = text, list[mmap.mmap](), False
        self._pictures: list[Picture] = []
        self._keys: list[tuple[CopyKind, str]] = []
        self._counted = [0] * REASONS
        self._message = bytearray(LONGEST)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), str(theirs.fileno()),
                     text],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=2,  # stdout is for answers
                    start_new_session=True,  # Ctrl-C is for us, who then end it
                )  # fmt: skip
            self._poll = select.poll()
            self._poll.register(self._socket, select.POLLIN)
            pin(cores, self._process.pid)
            self._greet()
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
                return self._frame()
            if kind == b"E":
                return None
            news = json.loads(bytes(self._message[1:size]))
            if kind == b"K":
                self._keys = news
            else:
                raise _error(news)

    def close(self) -> None:
        """End the process, which frees the camera; frames that are lent stay readable."""
        if self._closed:
            return
        self._closed = True
        self._socket.close()
        if hasattr(self, "_process"):
            self._process.kill()  # also when it is stopped or hangs in a driver
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
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
            raise _error(news)
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
        return Frame(
            picture, sequence, captured_ns, time_s, self._releases[slot], "", slot
        )  # fmt: skip

    def _picture(self, slot: int, used: int) -> Picture:
        if self._layout.format == "MJPEG":
            return self._layout.over(self._maps[slot], used)
        return self._pictures[slot]

    def _release(self, slot: int) -> None:
        if not self._closed:
            with contextlib.suppress(OSError, SourceUnavailable):  # read() will tell
                self._send(b"R", slot)

    def _send(self, what: bytes, slot: int) -> None:
        try:
            self._socket.send(ASK.pack(what, slot))
        except OSError as error:
            raise SourceUnavailable(self._died()) from error

    def _receive(self, deadline_s: float) -> int:
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
                f"the process that reads {self._text} gave nothing for {deadline_s:.2g} s: "
                "it hangs in the camera's driver, or was stopped"
            )

    def _died(self) -> str:
        code = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(0.2)
        why = f"exit code {code}" if code is not None else "it closed its end"
        return f"the process that reads {self._text} ended ({why}); see its messages above"


def _error(news: dict[str, str]) -> EdgekitError:
    """An error of the other process, as it was there."""
    kind = getattr(errors, news["error"], EdgekitError)
    made = kind.__new__(kind, news["message"])  # its __init__ may want other arguments
    assert isinstance(made, EdgekitError)
    return made
