"""`v4l2:///dev/video0?width=1280&height=720&fps=30`: a Linux camera, straight from its driver.

Frames are the driver's own buffers, mapped once: nothing is copied, converted or allocated.
"""

import glob
import os
import select
import time
from urllib.parse import quote, urlencode

from edgekit.device.cameras import _v4l2_abi as abi
from edgekit.device.cameras._v4l2_controls import set_controls
from edgekit.device.cameras._v4l2_device import Identity, find, open_device
from edgekit.device.cameras._v4l2_formats import Agreed, Wish, agree, choose, modes
from edgekit.device.cameras._v4l2_stream import Stream
from edgekit.device.copies import Copies
from edgekit.device.frame import Frame, Kind
from edgekit.device.missing import Missing
from edgekit.device.picture import FORMATS, Picture
from edgekit.device.uri import Uri
from edgekit.errors import SourceUnavailable, SpecError

Filled = tuple[int, int, int, int, int, int]
_NOTHING = "gave nothing for {:g} s"
_ANY = "any"
_FIRST_DEADLINE_S = 5.0  # some cameras take seconds to wake up
_LEAST_DEADLINE_S = 1.0
_DEADLINE_FRAMES = 10
_OLDEST_NS = 10_000_000_000  # of a first frame whose driver is on our clock
_MOST_FAULTS = 30
"""Damaged frames in a row after which the camera counts as broken."""
_CONTROL = "control."
_GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL


def open_camera(uri: Uri) -> "V4l2":
    """A V4L2 camera: `v4l2:///dev/video0`, `v4l2://0`, `v4l2://by-id/usb-...`.

    Options:

    - `width`, `height` (640, 480): pixels; the least size that is not smaller is taken.
    - `fps` (30), `format` (`nv12`, `yuyv`, `i420`, `bgr`, `rgb`, `mjpeg`, `grey`, or `any`, the
      default, which takes what costs least).
    - `buffers` (4): frames that the driver may hold.
    - `deadline`: seconds without a frame after which the camera counts as gone; 1, or 10 frames.
    - `control.NAME`: any of the driver's controls, as `control.brightness=50`.
    - `card`, `bus`: the camera of this name, and plugged in there, if it is at another number now.

    Raises:
        SourceUnavailable: no such camera, it may not be opened, is busy, or gives no format that
            can be read.
        UnknownName: no such option or control.
        SpecError: an option out of range.
    """
    asked = [name for name in uri.options if name.startswith(_CONTROL)]
    uri.only(
        "width", "height", "fps", "format", "buffers", "deadline", "card", "bus", *asked,
    )  # fmt: skip
    controls = {name[len(_CONTROL) :]: uri.options[name] for name in asked}
    of = uri.choice("format", (_ANY, *(name.lower() for name in FORMATS)), _ANY).upper()
    wish = Wish(
        width=int(uri.number("width", 640, 16, 16384)),
        height=int(uri.number("height", 480, 16, 16384)),
        fps=uri.number("fps", 30, 0.1, 1000),
        format=next((name for name in FORMATS if name == of), None),
    )
    buffers = int(uri.number("buffers", 4, 2, 32))
    deadline_s = uri.number("deadline", 0, 0, 3600)
    path = find(_path(uri.place), uri.options.get("card", ""), uri.options.get("bus", ""))
    fd, identity = open_device(path)
    try:
        agreed = agree(fd, identity, choose(modes(fd, identity, wish), wish))
        set_controls(fd, identity.card, controls)
    except BaseException:
        os.close(fd)
        raise
    stream = Stream(fd, identity, buffers, agreed.least_bytes)
    return V4l2(stream, identity, agreed, deadline_s, _again(uri, identity))


def missing() -> Missing | None:
    """A video device, which this user may open."""
    found = sorted(glob.glob("/dev/video*"))
    if not found:
        return Missing("a camera: there is no /dev/video*")
    if not any(os.access(path, os.R_OK | os.W_OK) for path in found):
        command = "sudo usermod -aG video $USER, then log in again"
        return Missing(f"permission to open {found[0]}", command)
    return None


class V4l2:
    """A live camera; it lends the driver's buffers.

    One thread reads; frames may be released by any. A frame that is still lent when the camera is
    closed stays readable.
    """

    kind: Kind = "live"

    def __init__(
        self, stream: Stream, identity: Identity, agreed: Agreed, deadline_s: float, again: str
    ) -> None:
        """Lend the frames of `stream`.

        Args:
            stream: started; closed by `close`.
            identity: of the device.
            agreed: the format and the rate.
            deadline_s: how long a frame may take; 0: 1 s, or ten frames.
            again: the source by which it is found under another number, too.
        """
        self.copies = Copies()
        self.fps = agreed.fps
        """As the driver says; 0: it does not."""
        self.faults = 0
        """Frames that were passed over: marked as damaged by the driver, or not whole."""
        self.backwards = 0
        """Timestamps before the one before, or in the future; corrected."""
        self.again = again
        """Open this after it was unplugged: its number may be another one then."""
        self.identity, self.layout, self.regions = identity, agreed.layout, stream.regions
        self._stream, self._least_bytes = stream, agreed.least_bytes
        self._pictures: list[Picture] = [agreed.layout.over(memory) for memory in stream.memory]
        self._usual_s = deadline_s or max(
            _LEAST_DEADLINE_S, _DEADLINE_FRAMES / agreed.fps if agreed.fps else 0.0
        )
        self.deadline_s = max(self._usual_s, _FIRST_DEADLINE_S)
        self._poll = stream.poll
        self._jpeg = agreed.layout.format == "MJPEG"
        self._sequence = -1
        self._counter = 0
        self._first_ns = self._last_ns = 0
        self._own_clock = False

    @property
    def fd(self) -> int:
        """The device; another process can map `regions` of it."""
        return self._stream.fd

    def read(self) -> Frame:
        """The newest frame; older ones go back to the driver.

        Raises:
            SourceUnavailable: the camera went away, changed its format, gave nothing within its
                deadline, or only damaged frames.
            SpecError: every buffer is lent, or the camera was closed.
        """
        stream = self._stream
        if 0 not in stream.lent:
            if stream.closed:
                raise SpecError(f"the camera {self.identity.path} was closed; open it again")
            raise SpecError(
                f"all {len(stream.lent)} frames of {self.identity.path} are lent; release them, or "
                "give more buffers="
            )
        if stream.broken:
            raise self._gone(stream.broken)
        until = time.monotonic() + self.deadline_s
        newest, sequence, faults = None, 0, 0
        left = len(stream.lent)  # a driver may fill as fast as its frames are passed over
        while left and self._wait(0.0 if newest else until - time.monotonic(), newest is None):
            try:
                filled = stream.dequeue()
            except BlockingIOError:  # as some drivers wake a reader early
                if time.monotonic() > until:
                    raise self._unavailable(_NOTHING.format(self.deadline_s)) from None
                continue
            except OSError as error:
                raise self._gone(error) from error
            self._count(filled[5])
            if self._damaged(filled):
                stream.queue(filled[0])
                self.faults, faults = self.faults + 1, faults + 1
                if faults == _MOST_FAULTS:
                    raise self._unavailable(f"gave {faults} damaged frames in a row")
                continue
            if newest:
                stream.queue(newest[0])
            newest, sequence, left = filled, self._sequence, left - 1
        assert newest  # `_wait` raises where nothing comes
        return self._frame(newest, sequence)

    def export(self, slot: int) -> int:
        """A DMABUF file descriptor of the buffer `slot`; the caller closes it.

        Raises:
            SourceUnavailable: the driver cannot.
        """
        return self._stream.export(slot)

    def close(self) -> None:
        """Give the camera back to the system; closing again does nothing."""
        self._pictures.clear()
        self._stream.close()

    def _wait(self, seconds: float, needed: bool) -> bool:
        """Whether there may be a filled buffer; if one is `needed`, nothing is an error."""
        for _, events in self._poll(max(seconds, 0.0) * 1e3):
            if events & select.POLLPRI and self._stream.changed():
                raise self._unavailable("changed its format")
            if events & _GONE:
                raise self._gone()
            return True
        if needed:
            raise self._unavailable(_NOTHING.format(self.deadline_s))
        return False

    def _count(self, counter: int) -> None:
        """Go on counting as the driver does, from 0."""
        step = (counter - self._counter) & 0xFFFFFFFF
        # A driver that does not count, or began anew: what was lost cannot be told.
        self._sequence += step if 0 < step < 1 << 31 and self._sequence >= 0 else 1
        self._counter = counter

    def _damaged(self, filled: Filled) -> bool:
        index, used, flags = filled[:3]
        if flags & abi.FLAG_ERROR or used < self._least_bytes:
            return True
        return self._jpeg and self._stream.memory[index][:2] != b"\xff\xd8"

    def _frame(self, filled: Filled, sequence: int) -> Frame:
        index, used, flags, seconds, micros, _ = filled
        now = time.monotonic_ns()
        stamp = seconds * 1_000_000_000 + micros * 1000
        if not self._first_ns:
            known = flags & abi.TIMESTAMP_MASK == abi.TIMESTAMP_MONOTONIC
            self._own_clock = not (known and 0 <= now - stamp < _OLDEST_NS)
            self.deadline_s = self._usual_s
        if self._own_clock:
            stamp = now
        elif not self._last_ns <= stamp <= now:
            self.backwards += 1
            stamp = max(self._last_ns, min(stamp, now))
        self._last_ns = stamp
        self._first_ns = self._first_ns or stamp
        if self._jpeg:
            picture = self.layout.over(self._stream.memory[index], used)
        else:
            picture = self._pictures[index]
        time_s = (stamp - self._first_ns) / 1e9
        return Frame(picture, sequence, stamp, time_s, self._stream.returns[index], "", index)

    def _gone(self, error: OSError | None = None) -> SourceUnavailable:
        return self._unavailable(f"went away ({error.strerror})" if error else "went away")

    def _unavailable(self, what: str) -> SourceUnavailable:
        return SourceUnavailable(
            f"the camera {self.identity.path} ({self.identity.card}) {what} after frame "
            f"{self._sequence}; check its cable and power, then start again"
        )


def _again(uri: Uri, identity: Identity) -> str:
    options = {"card": identity.card, "bus": identity.bus, **uri.options}
    return f"v4l2://{quote(uri.place)}?{urlencode(options)}"


def _path(place: str) -> str:
    """`0`, `video0`, `by-id/usb-...` and `/dev/video0` are all devices; empty is the first."""
    if not place or place.isdigit():
        return f"/dev/video{place or 0}"
    if place.startswith(("by-id/", "by-path/")):
        return f"/dev/v4l/{place}"
    return place if place.startswith("/") else f"/dev/{place}"
