"""`synthetic://640x480@30?format=nv12&fault=stall:90:3`: a moving pattern, and faults to survive.

For trying without a camera, and for seeing what a program does when a camera fails:

| fault | at frame AT |
|---|---|
| `stall:AT[:S]` | nothing comes for S seconds; without S, no more |
| `hang:AT` | `read` does not return, not even by the deadline, as a broken driver's |
| `unplug:AT` | the camera is gone; opened again, it is there |
| `error:AT` | one read fails; the next would not |
| `short:AT` | a frame comes cut short: left out, as drivers' are; a JPEG comes cut in half |
| `back:AT[:S]` | the clock of the frame is S seconds (1) behind |
| `format:AT` | from here on pictures are half as wide and half as high |

A fault comes each time that the camera was opened; with `once=1`, once in a process.
"""

import re
import threading
from dataclasses import replace

from edgekit.device.cameras._faults import Fault, faults_of
from edgekit.device.cameras._pattern import Pattern
from edgekit.device.copies import Copies
from edgekit.device.frame import FOREVER, Frame, Kind, nothing
from edgekit.device.pace import Clock, pace_of
from edgekit.device.picture import FORMATS
from edgekit.device.uri import Uri, number
from edgekit.errors import SourceUnavailable, SpecError

_happened: set[tuple[str, Fault]] = set()
"""Of cameras with `once=1`: which faults have been, in this process."""


def open_camera(uri: Uri) -> "Synthetic":
    """A camera of the size and rate given; `synthetic://` alone is 640x480 at 30 a second.

    Options: `format` (`bgr`, the default, `rgb`, `grey`, `yuyv`, `nv12`, `i420`, `mjpeg`), `frames`
    (end after so many; 0, the default, never ends), `pace` (`realtime`, the default, or `fast`),
    `fault` (see above), `once` (1: each fault once) and `deadline` (5 seconds; by the clock only).

    Raises:
        SpecError: the size, the rate or an option is not as above.
        UnknownName: no such format or fault.
        MissingPackage: OpenCV is not installed, which `mjpeg` needs.
    """
    uri.only("format", "frames", "pace", "fault", "once", "deadline")
    match = re.fullmatch(r"(\d+)x(\d+)@([\d.]+)", uri.place or "640x480@30")
    if match is None:
        raise SpecError(f"'{uri.text}' must be synthetic://WIDTHxHEIGHT@FPS, as 640x480@30")
    width = int(number(uri, "the width", match[1], 1, 8192))
    height = int(number(uri, "the height", match[2], 1, 8192))
    fps = number(uri, "the rate", match[3], 0.1, 1000)
    names = {of.lower(): of for of in FORMATS}
    of = names[uri.choice("format", names, "bgr")]
    once = uri.choice("once", ("0", "1"), "0") == "1"
    faults = tuple(it for it in faults_of(uri) if not (once and (uri.text, it) in _happened))
    realtime = pace_of(uri, "realtime") == "realtime"
    return Synthetic(
        Pattern(of, width, height),
        fps,
        int(uri.number("frames", 0, 0, 1e9)),
        uri.number("deadline", 5, 0.01, 3600) if realtime else FOREVER,
        faults,
        uri.text if once else "",
    )


class Synthetic:
    """A colour gradient that moves two pixels to the left with each frame, and starts over.

    Frame n shows some columns of one picture drawn beforehand: a view, so a frame costs nothing.
    """

    def __init__(
        self,
        pattern: Pattern,
        fps: float,
        frames: int = 0,
        deadline_s: float = FOREVER,
        faults: tuple[Fault, ...] = (),
        once: str = "",
    ) -> None:
        """Start with frame 0.

        Args:
            pattern: what it shows.
            fps: frames a second of its own time.
            frames: how many; 0: without end.
            deadline_s: how long a frame may take by the clock; infinite: not by the clock.
            faults: what goes wrong.
            once: under which name faults are remembered, not to happen again; empty: they are not.
        """
        realtime = deadline_s != FOREVER
        self.kind: Kind = "live" if realtime else "clip"
        self.deadline_s = deadline_s
        self.copies = Copies()
        self._pattern, self._fps, self._frames = pattern, fps, frames
        self._faults, self._once = faults, once
        self._clock = Clock("realtime" if realtime else "fast")
        self._closed = threading.Event()
        self._gone = False
        self._next = 0

    def read(self) -> Frame | None:
        """The next frame, when it is due.

        Raises:
            SourceUnavailable: a fault that it was given.
        """
        if self._gone:
            raise SourceUnavailable(f"the synthetic camera was unplugged before frame {self._next}")
        if self._closed.is_set() or (self._frames and self._next >= self._frames):
            return None
        sequence, self._next = self._next, self._next + 1
        behind_s, cut = 0.0, False
        for fault in [it for it in self._faults if it.at == sequence]:
            self._fail(fault)
            behind_s += fault.seconds * (fault.kind == "back")
            cut = cut or fault.kind == "short"
        if self._closed.is_set():
            return None
        time_s = sequence / self._fps
        captured_ns = self._clock.capture(time_s) - int(behind_s * 1e9)
        picture = self._pattern.picture(sequence)
        if cut and picture.format != "MJPEG":
            return self.read()
        if cut:
            picture = replace(picture, planes=(picture.planes[0][: picture.planes[0].size // 2],))
        return Frame(picture, sequence, captured_ns, time_s - behind_s, nothing)

    def close(self) -> None:
        """Wait no more, and give no more frames; closing again does nothing."""
        self._closed.set()
        self._clock.stop()

    def _fail(self, fault: Fault) -> None:
        """Let `fault` happen, as far as it is not in the frame itself."""
        if self._once:
            _happened.add((self._once, fault))
        if fault.kind == "stall":
            self._clock.wait(min(fault.seconds, self.deadline_s))
            if fault.seconds > self.deadline_s and not self._closed.is_set():
                raise SourceUnavailable(
                    f"the synthetic camera gave no frame for {self.deadline_s:g} s"
                )
        elif fault.kind == "hang":
            self._closed.wait()
        elif fault.kind == "unplug":
            self._gone = True
            raise SourceUnavailable(f"the synthetic camera was unplugged before frame {fault.at}")
        elif fault.kind == "error":
            raise SourceUnavailable(f"the synthetic camera failed to read frame {fault.at}")
        elif fault.kind == "format":
            self._pattern = self._pattern.halved()
