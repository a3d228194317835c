"""`picamera://0?width=640&height=480&fps=30`: a Raspberry Pi's ribbon-cable camera, by picamera2.

The camera's image processor resizes and gives planes (YUV420), so ask it for a size not far above
the model's. A frame is picamera2's own DMA buffer, mapped; `make_array` and `make_buffer` would
copy it, and are not used.

Written against picamera2 0.3.38's source; tested here with a fake of what it uses of it, for it
runs on a Raspberry Pi alone.
"""

import concurrent.futures
import importlib
import importlib.util
import threading
import time
from typing import Any

import numpy as np

from edgekit.device.copies import Copies
from edgekit.device.frame import Frame, Kind
from edgekit.device.missing import Missing
from edgekit.device.picture import Layout, Matrix, layout
from edgekit.device.uri import Uri, number
from edgekit.errors import SourceUnavailable

_BUFFERS = 6  # one being filled and one queued at the least, and those that are lent
_LOOK_S = 0.1  # between two looks whether we are closed


def open_camera(uri: Uri) -> "PiCamera":
    """Camera 0, 1 ...; `picamera://` alone is the first.

    Options: `width` (640), `height` (480), `fps` (30), and `deadline`, the seconds that a frame may
    take (5).

    Raises:
        SourceUnavailable: picamera2 is missing, or there is no such camera, or it is busy.
    """
    uri.only("width", "height", "fps", "deadline")
    return PiCamera(
        int(number(uri, "the camera", uri.place or "0", 0, 15)),
        int(uri.number("width", 640, 16, 16384)),
        int(uri.number("height", 480, 16, 16384)),
        uri.number("fps", 30, 1, 1000),
        uri.number("deadline", 5, 0.1, 3600),
    )


def missing() -> Missing | None:
    """The package picamera2, which comes with Raspberry Pi OS."""
    if importlib.util.find_spec("picamera2") is not None:
        return None
    return Missing(
        "picamera2 (on a Raspberry Pi, in an environment made with --system-site-packages)",
        "sudo apt install python3-picamera2",
    )


class PiCamera:
    """A live camera. `close` may come from any thread; a read that waits ends."""

    kind: Kind = "live"

    def __init__(self, index: int, width: int, height: int, fps: float, deadline_s: float) -> None:
        """Open and start it.

        Args:
            index: which camera, from 0.
            width: to ask for, pixels; picamera2 may align it.
            height: likewise.
            fps: to ask for.
            deadline_s: how long a frame may take.

        Raises:
            SourceUnavailable: as `open_camera`.
        """
        self.deadline_s = deadline_s
        self.copies = Copies()
        self._picamera2 = _module()
        self._name = f"picamera://{index}"
        self._closed = False
        self._reading = threading.Lock()
        self._count = 0
        self._first_sequence = self._first_ns = 0
        try:
            self._camera: Any = self._picamera2.Picamera2(index)
        except (RuntimeError, IndexError) as error:  # picamera2's, of a camera that is not there
            raise SourceUnavailable(
                f"{self._name} cannot be opened ({error}); `rpicam-hello --list-cameras` lists the "
                "cameras that are connected, and no other program may use it"
            ) from error
        try:
            self._layout = self._start(width, height, fps)
        except RuntimeError as error:
            self.close()
            raise SourceUnavailable(f"{self._name} does not start: {error}") from error

    def read(self) -> Frame | None:
        """Wait for the newest frame.

        Raises:
            SourceUnavailable: nothing came within the deadline.
        """
        with self._reading:
            request = None if self._closed else self._request()
            if request is None:
                self._free()
                return None
        sequence, captured_ns = self._sequence(request), _captured_ns(request)
        if not self._count:
            self._first_sequence, self._first_ns = sequence, captured_ns
        self._count += 1
        # The sync of the buffer lasts as long as the request; this only asks for the memory.
        with self._picamera2.MappedArray(request, "main", reshape=False, write=False) as mapped:
            memory: np.ndarray = mapped.array.view()
        memory.flags.writeable = False
        time_s = (captured_ns - self._first_ns) / 1e9
        number = sequence - self._first_sequence
        return Frame(self._layout.over(memory), number, captured_ns, time_s, request.release)

    def close(self) -> None:
        """Stop the camera and give it back; closing again does nothing."""
        self._closed = True
        if self._reading.acquire(timeout=1.0):  # a read looks 10 times a second
            self._free()
            self._reading.release()

    def _start(self, width: int, height: int, fps: float) -> Layout:
        """Start it; returns how the planes of a frame lie."""
        configuration = self._camera.create_video_configuration(
            main={"size": (width, height), "format": "YUV420"},
            buffer_count=_BUFFERS,
            controls={"FrameRate": fps},
            display=None,
            encode=None,
        )
        self._camera.align_configuration(configuration)
        self._camera.configure(configuration)
        self._camera.start()
        agreed = self._camera.camera_configuration()
        main, colour = agreed["main"], agreed["colour_space"]
        (width, height), stride = main["size"], main["stride"]
        matrix: Matrix = "bt709" if "709" in str(colour.ycbcrEncoding) else "bt601"
        full = "Full" in str(colour.range)
        return layout("I420", width, height, stride, matrix=matrix, full_range=full)

    def _request(self) -> Any:
        """A completed request, which is ours to release; None if we were closed meanwhile."""
        job = self._camera.capture_request(wait=False)
        until = time.monotonic() + self.deadline_s
        while not self._closed:
            try:
                return job.get_result(timeout=_LOOK_S)
            except concurrent.futures.TimeoutError:
                if time.monotonic() > until:
                    raise SourceUnavailable(
                        f"{self._name} gave no frame for {self.deadline_s:g} s, after frame "
                        f"{self._count}; check its ribbon cable"
                    ) from None
        return None

    def _sequence(self, request: Any) -> int:
        """The driver's number of the frame, which counts those that were lost, too."""
        buffer = request.request.buffers[request.stream_map["main"]]
        return int(buffer.metadata.sequence)

    def _free(self) -> None:
        if self._camera is not None:
            self._camera.stop()
            self._camera.close()
            self._camera = None


def _captured_ns(request: Any) -> int:
    """When the sensor began with the frame, on `time.monotonic_ns()`'s clock.

    `SensorTimestamp` is on the clock that goes on while the machine sleeps (CLOCK_BOOTTIME), says
    libcamera; drivers give monotonic time. They differ once the machine has slept, and then the
    former lies in the future of the latter.
    """
    now_ns = time.monotonic_ns()
    stamp_ns = int(request.get_metadata()["SensorTimestamp"])
    if stamp_ns <= now_ns:
        return stamp_ns
    asleep_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - now_ns
    return min(stamp_ns - asleep_ns, now_ns)


def _module() -> Any:
    try:
        return importlib.import_module("picamera2")
    except ImportError as error:
        raise SourceUnavailable(
            f"picamera:// needs picamera2, which does not load ({error}); on Raspberry Pi OS: "
            "sudo apt install python3-picamera2, and an environment that sees it: "
            "python3 -m venv --system-site-packages"
        ) from error
