"""Where a loop's frames come from: a thread that captures, or the camera itself.

The camera is read by whoever takes a frame where another process captures, and where a file is
read on one core only: there a thread that decodes ahead takes turns with the inference in the
middle of it, and each finds the cache full of the other's (7 to 10 % of a frame of MobileNetV2).
"""

import threading
import time
from collections.abc import Sequence

from edgekit.device.capture.apart import Apart
from edgekit.device.capture.cores import alone, pin
from edgekit.device.capture.slots import Direct, Every, Latest
from edgekit.device.capture.steady import Steady
from edgekit.device.frame import Camera, Frame
from edgekit.device.packages import opencv
from edgekit.device.stats import Stats

_JOIN_S = 1.2
"""For a reader to end: in all, a program must be gone within two seconds of being told."""


class Supply:
    """The frames of one camera, taken one by one. Use `start` and `stop`."""

    def __init__(
        self, camera: Camera, stats: Stats, cores: Sequence[int] = (), *, ahead: bool = True
    ) -> None:
        """Keep the camera.

        Args:
            camera: open; only this supply reads it.
            stats: counts how long frames take to come.
            cores: on which the capturing thread may run; empty: on all.
            ahead: decode the next frames of a file while one is answered; not, where other work
                keeps the cores busy meanwhile.
        """
        self.camera = camera
        self._cores = cores
        self._stats = stats
        self._thread: threading.Thread | None = None
        self._handover: Latest | Every | Direct
        if self._apart() is not None or (camera.kind != "live" and (alone() or not ahead)):
            self._handover = Direct(camera)
        else:
            self._handover = Latest() if camera.kind == "live" else Every()
            self._thread = threading.Thread(target=self._capture, name="capture", daemon=True)
        self.tell(stats)

    def start(self) -> None:
        """Begin to capture."""
        # One thread for pixels: resizing to a model's input gains nothing from more, and OpenCV's
        # pool would take cores from the model in uneven bites.
        opencv("running a camera").setNumThreads(1)
        if self._thread is not None:
            self._thread.start()

    def tell(self, stats: Stats) -> None:
        """Let `stats` include what the camera costs, and what it made since the first frame."""
        stats.follow(self.camera, lambda: self._handover.first)

    def wait(self) -> bool:
        """Wait until `take` would give the newest frame at once; False where it cannot tell."""
        if not isinstance(self._handover, Latest):
            return False
        self._handover.wait(self.camera.deadline_s)
        return True

    def take(self) -> Frame | None:
        """The next frame; None at the end of the source. The caller releases it.

        Raises:
            SourceUnavailable: the camera went away or gave nothing within its deadline.
            ImageError: a file of the source cannot be decoded.
        """
        waited = time.perf_counter_ns()
        frame = self._handover.take(self.camera.deadline_s)
        waited = time.perf_counter_ns() - waited
        stages = self._stats.stages
        if frame is None:
            return None
        if (apart := self._apart()) is not None:
            stages["capture"].add(apart.read_ns)
        elif isinstance(self._handover, Direct):
            stages["capture"].add(waited)
            waited = 0
        stages["wait"].add(waited)
        return frame

    def stop(self) -> None:
        """End the capture; frames that wait are released."""
        if isinstance(self.camera, Steady):
            self.camera.stop()
        self._handover.stop()
        if self._thread is not None and self._thread.ident is not None:
            # A driver that hangs inside a read cannot be interrupted: the thread is a daemon, and
            # the process may end without it.
            self._thread.join(_JOIN_S)
            self._handover.stop()  # what was put between the lines above

    def _apart(self) -> Apart | None:
        """The camera itself, if another process captures."""
        inner = self.camera.camera if isinstance(self.camera, Steady) else None
        return inner if isinstance(inner, Apart) else None

    def _capture(self) -> None:
        """Read until the source ends, fails, or the loop stops (the capture thread)."""
        assert not isinstance(self._handover, Direct)
        error: BaseException | None = None
        pin(self._cores)
        try:
            while not self._handover.ended:
                started = time.perf_counter_ns()
                frame = self.camera.read()
                if frame is None:
                    break
                self._stats.stages["capture"].add(time.perf_counter_ns() - started)
                self._handover.put(frame)
        except BaseException as failure:  # raised again in the main thread, by `take`
            error = failure
        self._handover.end(error)
