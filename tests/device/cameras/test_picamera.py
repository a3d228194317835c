"""The Raspberry Pi's camera, on a fake of what is used of picamera2.

The fake follows picamera2 0.3.38's source: jobs whose result is waited for, requests that are
released once, buffers that are mapped through `MappedArray`, strides that are padded.
"""

import concurrent.futures
import mmap
import sys
import time
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgekit import plugins
from edgekit.device.frame import Camera
from edgekit.device.uri import parse_source
from edgekit.errors import SourceUnavailable
from tests.device.cameras.waiting import closed_while_reading

STRIDE = 128  # of 100 pixels


class FakeRequest:
    """A completed request: one buffer, which goes back by `release`."""

    def __init__(self, camera: "FakePicamera2", buffer: mmap.mmap, sequence: int) -> None:
        self.camera, self.buffer, self.released = camera, buffer, 0
        self.stream_map = {"main": "stream"}
        metadata = SimpleNamespace(sequence=sequence)
        self.request = SimpleNamespace(buffers={"stream": SimpleNamespace(metadata=metadata)})
        self.stamp_ns = time.monotonic_ns() - 30_000_000 + camera.slept_ns
        buffer[:] = bytes([sequence % 256]) * len(buffer)

    def get_metadata(self) -> dict[str, int]:
        return {"SensorTimestamp": self.stamp_ns}

    def release(self) -> None:
        self.released += 1
        assert self.released == 1
        self.camera.free.append(self.buffer)


class FakeJob:
    def __init__(self, camera: "FakePicamera2") -> None:
        self.camera = camera

    def get_result(self, timeout: float | None = None) -> FakeRequest:
        assert timeout is not None
        assert timeout < 1
        if not self.camera.numbers:
            time.sleep(timeout)
            raise concurrent.futures.TimeoutError
        request = FakeRequest(self.camera, self.camera.free.pop(0), self.camera.numbers.pop(0))
        self.camera.made.append(request)
        return request


class FakeMappedArray:
    def __init__(self, request: FakeRequest, stream: str, reshape: bool, write: bool) -> None:
        assert (stream, reshape, write) == ("main", False, False)
        self.request = request

    def __enter__(self) -> "FakeMappedArray":
        self.array: np.ndarray | None = np.frombuffer(self.request.buffer, np.uint8)
        return self

    def __exit__(self, *_: object) -> None:
        self.array = None


class FakePicamera2:
    """A camera of 100 x 60 pixels that gives frames of the numbers in `numbers`."""

    cameras = 1
    last: "FakePicamera2"

    def __init__(self, index: int) -> None:
        if index >= self.cameras:
            raise IndexError("list index out of range")
        FakePicamera2.last = self
        self.numbers = [*range(7, 12), 14]  # 12 and 13 were lost
        self.free = [mmap.mmap(-1, STRIDE * 60 * 3 // 2 + 4096) for _ in range(6)]
        self.made: list[FakeRequest] = []
        self.events: list[str] = []
        self.slept_ns = 0

    def create_video_configuration(self, **wanted: Any) -> dict[str, Any]:
        assert wanted["main"] == {"size": (101, 60), "format": "YUV420"}
        assert wanted["controls"] == {"FrameRate": 15.0}
        return dict(wanted)

    def align_configuration(self, configuration: dict[str, Any]) -> None:
        configuration["main"]["size"] = (100, 60)

    def configure(self, configuration: dict[str, Any]) -> None:
        colour = SimpleNamespace(ycbcrEncoding="YcbcrEncoding.Rec709", range="Range.Full")
        main = {**configuration["main"], "stride": STRIDE, "framesize": len(self.free[0])}
        self.configuration = {"main": main, "colour_space": colour}

    def camera_configuration(self) -> dict[str, Any]:
        return self.configuration

    def start(self) -> None:
        self.events.append("start")

    def stop(self) -> None:
        self.events.append("stop")

    def close(self) -> None:
        self.events.append("close")

    def capture_request(self, wait: bool) -> FakeJob:
        assert not wait
        return FakeJob(self)


@pytest.fixture(autouse=True)
def picamera2(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(Picamera2=FakePicamera2, MappedArray=FakeMappedArray)
    monkeypatch.setitem(sys.modules, "picamera2", module)


def opened(options: str = "") -> Camera:
    uri = parse_source(f"picamera://0?width=101&height=60&fps=15{options}")
    camera: Camera = plugins.camera("picamera").open_camera(uri)
    return camera


def test_planes_are_lent_from_the_cameras_buffers() -> None:
    with closing(opened()) as camera:
        fake = FakePicamera2.last
        numbers, times = [], []
        for _ in range(6):
            with camera.read() as frame:  # type: ignore[union-attr]
                request, lent = fake.made[-1], frame.picture
                assert (lent.format, lent.width, lent.height) == ("I420", 100, 60)
                assert (lent.matrix, lent.full_range) == ("bt709", True)
                assert [plane.shape for plane in lent.planes] == [(60, 100), (30, 50), (30, 50)]
                assert [plane.strides for plane in lent.planes] == [(128, 1), (64, 1), (64, 1)]
                memory = np.frombuffer(request.buffer, np.uint8)
                starts = [plane.ctypes.data - memory.ctypes.data for plane in lent.planes]
                assert starts == [0, 128 * 60, 128 * 60 + 64 * 30]
                assert not any(plane.flags.writeable for plane in lent.planes)
                assert request.released == 0
                numbers.append(frame.sequence)
                times.append(frame.time_s)
                assert 29e6 < time.monotonic_ns() - frame.captured_ns < 1e9
            assert request.released == 1
        assert numbers == [0, 1, 2, 3, 4, 7]  # those that were lost are counted
        assert times == sorted(times)
        assert camera.copies.by_reason == {}
    camera.close()
    assert fake.events == ["start", "stop", "close"]
    assert camera.read() is None


def test_a_clock_that_went_on_while_the_machine_slept(monkeypatch: pytest.MonkeyPatch) -> None:
    slept_ns = 10**12
    real = time.clock_gettime_ns
    monkeypatch.setattr(time, "clock_gettime_ns", lambda clock: real(clock) + slept_ns)
    with closing(opened()) as camera:
        FakePicamera2.last.slept_ns = slept_ns + (real(time.CLOCK_BOOTTIME) - time.monotonic_ns())
        with camera.read() as frame:  # type: ignore[union-attr]
            assert 29e6 < time.monotonic_ns() - frame.captured_ns < 1e9


def test_a_camera_that_falls_silent() -> None:
    with closing(opened("&deadline=0.3")) as camera:
        for _ in range(6):
            camera.read().release()  # type: ignore[union-attr]
        with pytest.raises(SourceUnavailable, match="no frame for 0.3 s, after frame 6"):
            camera.read()


def test_closing_ends_a_read_that_waits() -> None:
    camera = opened("&deadline=60")
    FakePicamera2.last.numbers.clear()
    assert closed_while_reading(camera) == [None]
    assert FakePicamera2.last.events == ["start", "stop", "close"]


def test_no_such_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakePicamera2, "cameras", 0)
    with pytest.raises(SourceUnavailable, match="picamera://0 cannot be opened .*--list-cameras"):
        opened()


def test_a_camera_that_does_not_start_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(self: FakePicamera2) -> None:
        raise RuntimeError("Failed to start camera: Device or resource busy")

    monkeypatch.setattr(FakePicamera2, "start", busy)
    with pytest.raises(SourceUnavailable, match="does not start: .*busy"):
        opened()
    assert FakePicamera2.last.events == ["stop", "close"]


def test_without_picamera2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(SourceUnavailable, match="sudo apt install python3-picamera2"):
        opened()
