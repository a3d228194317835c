"""`gst://PIPELINE`: any GStreamer pipeline, as `gst://v4l2src ! image/jpeg,width=1280`.

The text is what stands on `gst-launch-1.0`'s line, without a sink. It may be URL-encoded, and must
be where it has `?` or `%` in it. A frame is GStreamer's own buffer, mapped and not copied.
"""

import threading
import time
from collections.abc import Callable
from ctypes import POINTER, byref, c_int, c_uint8
from math import prod
from typing import Any

import numpy as np

from edgekit.device.cameras import _gstreamer as gst
from edgekit.device.copies import Copies
from edgekit.device.frame import Frame, Kind
from edgekit.device.missing import Missing
from edgekit.device.picture import Matrix, Picture, PixelFormat
from edgekit.device.uri import Uri
from edgekit.errors import SourceUnavailable, SpecError

# GStreamer's names of the formats that are lent, best first: it takes the first that it can make.
_FORMATS: dict[str, PixelFormat] = {
    "NV12": "NV12",
    "I420": "I420",
    "YUY2": "YUYV",
    "GRAY8": "GREY",
    "BGR": "BGR",
    "RGB": "RGB",
}
_MATRICES: dict[int, Matrix] = {gst.BT709: "bt709", gst.SMPTE240M: "bt709", gst.BT2020: "bt709"}
_SINK = (
    " ! appsink name=edgekit drop=true max-buffers=1 sync=false "
    f'caps="video/x-raw,format=(string){{{",".join(_FORMATS)}}};image/jpeg"'
)
_CONVERT = "if its pixels are of a format that is not lent, end it with ! videoconvert"
_LOOK_NS = 50_000_000  # between two looks for an error, or whether we are closed
_MOST_LOST = 10_000  # frames between two that were taken; more, and it counts something else


def open_camera(uri: Uri) -> "Pipeline":
    """A pipeline.

    Option: `deadline`, the seconds that starting, or a frame, may take (5).

    Raises:
        SpecError: no pipeline, or one that has a sink.
        SourceUnavailable: GStreamer or an element is missing, or there is no frame in time.
    """
    uri.only("deadline")
    text = uri.place.strip()
    if not text or "appsink" in text:
        raise SpecError(
            f"'{uri.text}' must be gst://PIPELINE without a sink, as gst://v4l2src; "
            "edgekit adds the sink"
        )
    return Pipeline(text, f"gst://{text.split()[0]}", uri.number("deadline", 5, 0.1, 3600))


def missing() -> Missing | None:
    """GStreamer's libraries."""
    return None if gst.installed() else Missing("GStreamer", f"sudo apt install {gst.PACKAGES}")


class Pipeline:
    """A running pipeline as a camera. `close` may come from any thread; a read that waits ends."""

    kind: Kind = "live"

    def __init__(self, text: str, name: str, deadline_s: float, copied: str = "") -> None:
        """Start it, and wait for a first frame.

        Args:
            text: of the pipeline, without a sink.
            name: for messages.
            deadline_s: how long starting may take, and each frame.
            copied: why an element of it copies each frame to here; empty: none does.

        Raises:
            SourceUnavailable: GStreamer or an element is missing, or there is no frame in time.
        """
        self.deadline_s = deadline_s
        self.copies = Copies()
        self._name, self._copied = name, copied
        self._gst = gst.library()
        self._closed = False
        self._reading = threading.Lock()
        self._caps: int | None = None
        self._info: gst.VideoInfo | None = None  # None: JPEG
        self._size = (0, 0)
        self._sequence = -1
        self._offset: int | None = None
        self._first_ns = 0
        self._pipeline: int | None = self._launch(text)
        self._sink = self._gst.gst_bin_get_by_name(self._pipeline, b"edgekit")
        self._bus = self._gst.gst_element_get_bus(self._pipeline)
        try:
            if self._gst.gst_element_set_state(self._pipeline, gst.PLAYING) == gst.FAILED:
                self._raise_error()
                raise SourceUnavailable(f"{name} does not start; try it with gst-launch-1.0")
            first = self._pull()
            if first is None:
                raise SourceUnavailable(f"{name} ended before its first frame")
            self._gst.gst_mini_object_unref(first)
        except BaseException:
            self.close()
            raise

    def read(self) -> Frame | None:
        """Wait for the next frame; None at the pipeline's end.

        Raises:
            SourceUnavailable: an element failed, or nothing came within the deadline.
        """
        with self._reading:
            try:
                sample = None if self._closed else self._pull()
                if sample is not None:
                    try:
                        return self._lend(sample)
                    finally:  # what is mapped holds its buffer itself
                        self._gst.gst_mini_object_unref(sample)
            finally:
                if self._closed:
                    self._free()
        return None

    def close(self) -> None:
        """Stop the pipeline; closing again does nothing. Frames that are lent stay valid."""
        self._closed = True
        if self._reading.acquire(timeout=1.0):  # a read looks 20 times a second
            self._free()
            self._reading.release()

    def _launch(self, text: str) -> int:
        error = POINTER(gst.Error)()
        pipeline = self._gst.gst_parse_launch((text + _SINK).encode(), byref(error))
        if gst.is_set(error):
            why = gst.text_of(self._gst, error)
            if pipeline:
                self._gst.gst_object_unref(pipeline)
            hint = f"most elements come with: sudo apt install {gst.PACKAGES}"
            if "can't handle caps" in why:
                hint = _CONVERT
            raise SourceUnavailable(f"{self._name} cannot be made: {why}; {hint}")
        return int(pipeline)

    def _free(self) -> None:
        if self._pipeline is None:
            return
        self._gst.gst_element_set_state(self._pipeline, gst.NULL)
        for thing in (self._sink, self._bus, self._pipeline):
            self._gst.gst_object_unref(thing)
        if self._caps is not None:
            self._gst.gst_mini_object_unref(self._caps)
        self._pipeline = self._caps = None

    def _pull(self) -> int | None:
        """Wait for a sample, which the caller frees; None at the end, or when closed."""
        until = time.monotonic_ns() + int(self.deadline_s * 1e9)
        while not self._closed:
            sample = self._gst.gst_app_sink_try_pull_sample(self._sink, _LOOK_NS)
            if sample:
                return int(sample)
            self._raise_error()
            if self._gst.gst_app_sink_is_eos(self._sink):
                return None
            if time.monotonic_ns() > until:
                raise SourceUnavailable(
                    f"{self._name} gave no frame for {self.deadline_s:g} s, after frame "
                    f"{self._sequence + 1}; check the camera's cable and power"
                )
        return None

    def _raise_error(self) -> None:
        """Say what the pipeline says.

        Raises:
            SourceUnavailable: an element failed.
        """
        message = self._gst.gst_bus_pop_filtered(self._bus, gst.ERROR)
        if message:
            why, details = gst.error_of(self._gst, message)
            self._gst.gst_mini_object_unref(message)
            hint = f"; {_CONVERT}" if "not-negotiated" in details else ""
            count = self._sequence + 1
            raise SourceUnavailable(f"{self._name} failed after frame {count}: {why}{hint}")

    def _lend(self, sample: int) -> Frame:
        buffer = self._gst.gst_sample_get_buffer(sample)
        self._look_at(self._gst.gst_sample_get_caps(sample))
        captured_ns = self._captured_ns(buffer, self._gst.gst_sample_get_segment(sample))
        self._first_ns = self._first_ns or captured_ns
        picture, release = self._raw(buffer, self._info) if self._info else self._jpeg(buffer)
        if self._copied:
            size = sum(plane.nbytes for plane in picture.planes)
            # A copy of the whole frame, by an element of the pipeline: it says why.
            self.copies.add("frame", self._copied, size)
        self._sequence = self._number(buffer.contents.offset)
        time_s = (captured_ns - self._first_ns) / 1e9
        return Frame(picture, self._sequence, captured_ns, time_s, release)

    def _look_at(self, caps: int) -> None:
        """Learn how the pixels lie; it changes seldom or never."""
        if caps == self._caps:
            return
        structure = self._gst.gst_caps_get_structure(caps, 0)
        if self._gst.gst_structure_get_name(structure) == b"image/jpeg":
            width, height = c_int(), c_int()
            self._gst.gst_structure_get_int(structure, b"width", byref(width))
            self._gst.gst_structure_get_int(structure, b"height", byref(height))
            self._info, self._size = None, (width.value, height.value)
        else:
            self._info = gst.VideoInfo()
            if not self._gst.gst_video_info_from_caps(byref(self._info), caps):
                raise SourceUnavailable(f"{self._name} does not say how its pixels lie")
        if self._caps is not None:
            self._gst.gst_mini_object_unref(self._caps)
        self._caps = self._gst.gst_mini_object_ref(caps)

    def _raw(self, buffer: Any, agreed: gst.VideoInfo) -> tuple[Picture, Callable[[], None]]:
        mapped = gst.VideoFrame()
        if not self._gst.gst_video_frame_map(byref(mapped), byref(agreed), buffer, gst.MAP_READ):
            raise SourceUnavailable(f"{self._name} gave a frame that is cut short or unreadable")
        info = mapped.info  # how it lies in this buffer, which may differ from what was agreed
        of = _FORMATS[info.format.contents.name.decode()]
        planes = tuple(
            _plane(mapped.data[n], shape, info.stride[n])
            for n, shape in enumerate(_shapes(of, info.width, info.height))
        )
        matrix = _MATRICES.get(info.matrix, "bt601")
        full = info.range == gst.FULL_RANGE or (of == "GREY" and not info.range)
        picture = Picture(of, info.width, info.height, planes, matrix, full)
        return picture, lambda: self._gst.gst_video_frame_unmap(byref(mapped))

    def _jpeg(self, buffer: Any) -> tuple[Picture, Callable[[], None]]:
        mapped = gst.MapInfo()
        if not self._gst.gst_buffer_map(buffer, byref(mapped), gst.MAP_READ):
            raise SourceUnavailable(f"{self._name} gave a frame that is unreadable")
        held = self._gst.gst_mini_object_ref(buffer)
        picture = Picture(
            "MJPEG", *self._size, (_plane(mapped.data, (mapped.size,), 1),), full_range=True
        )

        def release() -> None:
            self._gst.gst_buffer_unmap(held, byref(mapped))
            self._gst.gst_mini_object_unref(held)

        return picture, release

    def _captured_ns(self, buffer: Any, segment: int) -> int:
        """When the frame was captured, by the pipeline's clock; now, where that is not known."""
        now_ns = time.monotonic_ns()
        pts = buffer.contents.pts
        clock = self._gst.gst_element_get_clock(self._pipeline)
        if not clock:
            return now_ns
        running = self._gst.gst_segment_to_running_time(segment, gst.FORMAT_TIME, pts)
        clock_ns = self._gst.gst_clock_get_time(clock)
        self._gst.gst_object_unref(clock)
        if pts == gst.NONE or running == gst.NONE:
            return now_ns
        age_ns = clock_ns - self._gst.gst_element_get_base_time(self._pipeline) - running
        return now_ns - max(int(age_ns), 0)  # a source that is not live runs ahead of the clock

    def _number(self, offset: int) -> int:
        """The number of the frame that was just made: the driver's where buffers carry one."""
        step = 1
        if self._offset is not None and 1 <= offset - self._offset <= _MOST_LOST:
            step = offset - self._offset
        self._offset = None if offset == gst.NONE else offset
        return self._sequence + step


def _shapes(of: PixelFormat, width: int, height: int) -> tuple[tuple[int, ...], ...]:
    half_width, half_height = (width + 1) // 2, (height + 1) // 2
    shapes: dict[PixelFormat, tuple[tuple[int, ...], ...]] = {
        "NV12": ((height, width), (half_height, half_width, 2)),
        "I420": ((height, width), (half_height, half_width), (half_height, half_width)),
        "YUYV": ((height, half_width, 4),),
        "GREY": ((height, width),),
    }
    return shapes.get(of, ((height, width, 3),))


def _plane(address: int, shape: tuple[int, ...], stride: int) -> np.ndarray:
    """A view of memory that GStreamer has mapped, read-only."""
    inner = (shape[2], 1) if len(shape) == 3 else (1,) * (len(shape) - 1)
    length = stride * (shape[0] - 1) + prod(shape[1:])
    memory = (c_uint8 * length).from_address(address)
    plane: np.ndarray = np.ndarray(shape, np.uint8, memoryview(memory), 0, (stride, *inner))
    plane.flags.writeable = False
    return plane
