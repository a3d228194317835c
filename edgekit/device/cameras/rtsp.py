"""`rtsp://user:password@camera/stream?transport=udp`: a network camera, decoded by FFmpeg (PyAV).

The latest frame wins, as of any camera. A lost connection is an error, and waiting has an end. What
stands before `@`, and the query, is never shown in a message.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote_plus

from edgekit.device.cameras._video import picture, reason
from edgekit.device.copies import Copies
from edgekit.device.frame import Frame, Kind, nothing
from edgekit.device.missing import Missing, package
from edgekit.device.packages import pyav
from edgekit.device.shown import shown
from edgekit.device.uri import Uri
from edgekit.errors import SourceUnavailable

_OURS = ("transport", "deadline")
_DRIFT = 1e-3  # a camera's clock may be so much slower than ours; quartz is 100 times better
_FAR_NS = 5_000_000_000  # a frame that is later than this: the camera set its clock back


def open_camera(uri: Uri) -> "Stream":
    """A network camera.

    Options: `transport`, `tcp` (the default: whole frames) or `udp` (where the network loses
    little, sooner); `deadline`, the seconds that opening, or a frame, may take (5). Others belong
    to the camera, and are passed on as they are.

    Raises:
        SourceUnavailable: it cannot be reached, refuses, or sends no video in time.
        MissingPackage: PyAV is not installed.
    """
    transport = uri.choice("transport", ("tcp", "udp"), "tcp")
    deadline_s = uri.number("deadline", 5, 0.1, 3600)
    options = {"rtsp_transport": transport, "allowed_media_types": "video"}
    return Stream(_without_ours(uri.text), shown(uri.text), deadline_s, options)


def missing() -> Missing | None:
    """What decodes streams."""
    return package("av")


class Stream:
    """A live stream as a camera. A frame's planes are the decoder's own, kept alive by the frame.

    `close` may come from any thread; a read that waits ends by its deadline.
    """

    kind: Kind = "live"

    def __init__(
        self, url: str, name: str, deadline_s: float, options: Mapping[str, str] | None = None
    ) -> None:
        """Connect.

        Args:
            url: as FFmpeg takes it.
            name: for messages, without secrets.
            deadline_s: how long connecting may take, and each frame.
            options: of FFmpeg's demuxer, besides those that keep delay low.

        Raises:
            SourceUnavailable: it cannot be reached, refuses, or sends no video in time.
            MissingPackage: PyAV is not installed.
        """
        self.deadline_s = deadline_s
        self.copies = Copies()
        self._av = pyav("reading a network camera")
        self._name = name
        self._closed = False
        self._reading = threading.Lock()
        self._sequence = 0
        self._first_ns = 0
        self._clock = _Clock()
        low_delay = {"fflags": "nobuffer", "max_delay": "100000", **(options or {})}
        try:
            self._container: Any = self._av.open(url, options=low_delay, timeout=deadline_s)
        except (self._av.FFmpegError, OSError) as error:
            # Not `from error`: its text holds the whole address, and with it the password.
            raise SourceUnavailable(
                f"cannot open {name}: {self._reason(error)}; check the address, user and password, "
                "and that the camera is on"
            ) from None
        if not self._container.streams.video:
            self._container.close()
            raise SourceUnavailable(f"{name} sends no video; give the address of a video stream")
        stream = self._container.streams.video[0]
        stream.thread_type = "SLICE"  # decoding several frames at once would delay each
        stream.codec_context.flags |= self._av.codec.context.Flags.low_delay
        self._decoded = self._frames(stream)

    def read(self) -> Frame | None:
        """Decode the next frame; its memory is its own until it is released.

        Raises:
            SourceUnavailable: the connection is lost, or nothing came within the deadline.
        """
        with self._reading:
            decoded = None if self._closed else next(self._decoded, None)
            if self._closed:  # perhaps while we waited
                self._container.close()
                return None
        if decoded is None:  # an error ended it before
            raise SourceUnavailable(f"{self._name} ended; open it again")
        now = time.monotonic_ns()
        captured_ns = self._clock.captured(now, decoded.time)
        self._first_ns = self._first_ns or captured_ns
        sequence, self._sequence = self._sequence, self._sequence + 1
        time_s = (captured_ns - self._first_ns) / 1e9
        return Frame(picture(decoded, self.copies), sequence, captured_ns, time_s, nothing)

    def close(self) -> None:
        """Leave the stream; closing again does nothing. A read that waits leaves it by itself."""
        self._closed = True
        if self._reading.acquire(blocking=False):
            self._container.close()
            self._reading.release()

    def _frames(self, stream: Any) -> Iterator[Any]:
        """Decoded frames, for ever.

        Raises:
            SourceUnavailable: there are no more, or none in time.
        """
        until = time.monotonic() + self.deadline_s
        packets = self._container.demux()  # sound too: else it would be waited for in there
        while True:
            try:
                packet = next(packets, None)
            except (self._av.FFmpegError, OSError) as error:
                raise SourceUnavailable(
                    f"{self._name} was lost after frame {self._sequence}: {self._reason(error)}"
                ) from None  # see above
            if packet is None or packet.size == 0:
                raise SourceUnavailable(f"{self._name} ended after frame {self._sequence}")
            for decoded in self._decode(packet) if packet.stream is stream else ():
                yield decoded
                until = time.monotonic() + self.deadline_s
            if time.monotonic() > until:
                raise SourceUnavailable(
                    f"{self._name} sent nothing that can be decoded for {self.deadline_s:g} s, "
                    f"after frame {self._sequence}"
                )

    def _decode(self, packet: Any) -> list[Any]:
        """The frames of a packet; none if it is damaged, as one that lacks what was lost before."""
        try:
            return [*packet.decode()]
        except self._av.error.InvalidDataError:
            return []

    def _reason(self, error: Exception) -> str:
        if isinstance(error, self._av.error.ExitError):
            return f"no answer for {self.deadline_s:g} s"
        return reason(error)


class _Clock:
    """Turns a stream's times into ours: the frame that was quickest on its way tells the delay."""

    def __init__(self) -> None:
        self._offset_ns: int | None = None
        self._last_ns = 0

    def captured(self, now_ns: int, time_s: float | None) -> int:
        """When the frame that came `now_ns` was sent, on `time.monotonic_ns()`'s clock, at best.

        Nobody knows how long the quickest one took; the age of the others is at least this.
        """
        if time_s is None:
            return now_ns
        offset_ns = now_ns - int(time_s * 1e9)
        if self._offset_ns is None or offset_ns - self._offset_ns > _FAR_NS:
            self._offset_ns = offset_ns
        else:
            drifted_ns = self._offset_ns + int((now_ns - self._last_ns) * _DRIFT)
            self._offset_ns = min(offset_ns, drifted_ns)
        self._last_ns = now_ns
        return now_ns - (offset_ns - self._offset_ns)


def _without_ours(text: str) -> str:
    """The address without our own options; what is the camera's stays to the letter."""
    address, _, query = text.partition("?")
    kept = [it for it in query.split("&") if unquote_plus(it.partition("=")[0]) not in _OURS]
    return f"{address}?{'&'.join(kept)}" if query and kept else address
