"""What every camera that needs no hardware keeps, and what each does of its own."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekit import plugins
from edgekit.device.cameras import csi
from edgekit.device.frame import Camera, Frame
from edgekit.device.picture import FORMATS
from edgekit.device.slots import ALIVE
from edgekit.device.uri import open_raw
from edgekit.errors import ImageError, SourceUnavailable, UnknownName

HARDWARE = ("csi", "v4l2")


@pytest.fixture
def sources(clip: Path, photo: Callable[[str, str], Path], tmp_path: Path) -> dict[str, str]:
    """A source of each scheme that needs no hardware."""
    photo("photos/a/0.png", "red")
    return {
        "dir": f"dir://{photo('photos/b.png', 'green').parent}",
        "file": f"file://{clip}",
        "image": f"image://{photo('one.png', 'blue')}",
        "synthetic": "synthetic://64x48@200?frames=5&pace=fast",
    }


def frames(camera: Camera) -> Iterator[Frame]:
    while (frame := camera.read()) is not None:
        yield frame


@pytest.mark.parametrize("scheme", sorted(set(plugins.cameras()) - set(HARDWARE)))
def test_every_camera(scheme: str, sources: dict[str, str]) -> None:
    with closing(open_raw(sources[scheme])) as camera:
        count, before = 0, -1.0
        for number, frame in enumerate(frames(camera)):
            with frame:
                assert camera.deadline_s == float("inf")
                assert frame.sequence == number
                assert all(plane.dtype == np.uint8 for plane in frame.picture.planes)
                assert frame.picture.format in FORMATS
                assert 0 <= time.monotonic_ns() - frame.captured_ns < 10**10
                assert frame.time_s > before
                before, count = frame.time_s, count + 1
        assert count == {"dir": 2, "file": 30, "image": 1, "synthetic": 5}[scheme]
        assert camera.read() is None
        camera.close()


@pytest.mark.parametrize("scheme", plugins.cameras())
def test_every_camera_refuses_options_that_it_does_not_know(
    scheme: str, sources: dict[str, str]
) -> None:
    with pytest.raises(UnknownName, match="option of .* 'colour'"):
        open_raw(sources.get(scheme, f"{scheme}://") + ("&" if scheme == "synthetic" else "?")
                    + "colour=1")  # fmt: skip


def test_a_broken_image_in_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"not a PNG")
    with (
        closing(open_raw(str(tmp_path))) as camera,
        pytest.raises(ImageError, match=r"x\.png"),
    ):
        camera.read()


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(SourceUnavailable, match="no camera /dev/video99.*video devices here"):
        open_raw("v4l2:///dev/video99")


def test_a_file_is_no_device(clip: Path) -> None:
    with pytest.raises(SourceUnavailable, match="is not a camera device"):
        open_raw(f"v4l2://{clip}")


def test_a_device_that_may_not_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SourceUnavailable, match="usermod -aG video"):
        open_raw("v4l2:///dev/null")


def test_a_device_that_is_busy_or_no_camera() -> None:
    with pytest.raises(SourceUnavailable, match="cannot be opened; is another program using it"):
        open_raw("v4l2:///dev/null")


class FakeCapture:
    """`cv2.VideoCapture` of a camera that gives so many frames and is then unplugged."""

    def __init__(self, count: int) -> None:
        self.left, self.asked, self.released = count, dict[int, float](), 0

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def set(self, key: int, value: float) -> bool:
        self.asked[key] = value
        return False

    def get(self, _: int) -> float:
        return time.monotonic() * 1e3 - 40.0

    def read(self, out: np.ndarray | None = None) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        if self.left < 0:
            return False, None
        out = np.zeros((48, 64, 3), np.uint8) if out is None else out
        out[...] = self.left
        return True, out

    def release(self) -> None:
        self.released += 1


def test_a_camera_that_is_unplugged(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCapture(1 + 2 * ALIVE)
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: fake)
    with closing(open_raw("v4l2:///dev/null?width=640&format=mjpg")) as camera:
        seen = set()
        for number in range(2 * ALIVE):
            with camera.read() as frame:  # type: ignore[union-attr]
                assert frame.sequence == number
                assert 39e6 < time.monotonic_ns() - frame.captured_ns < 1e9  # the driver's stamp
                seen.add(frame.picture.planes[0].ctypes.data)
        assert len(seen) <= ALIVE  # the same memory again and again
        assert camera.copies.total("frame") == 2 * ALIVE * 48 * 64 * 3
        with pytest.raises(SourceUnavailable, match="/dev/null went away or stopped after frame 6"):
            camera.read()
    assert fake.released == 1
    assert fake.asked == {
        cv2.CAP_PROP_BUFFERSIZE: 1.0,
        cv2.CAP_PROP_FRAME_WIDTH: 640.0,
        cv2.CAP_PROP_FOURCC: float(cv2.VideoWriter.fourcc(*"MJPG")),
    }


def test_a_camera_without_a_first_frame_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCapture(0)
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: fake)
    with pytest.raises(SourceUnavailable, match="gives no frame"):
        open_raw("v4l2:///dev/null")
    assert fake.released == 1


def test_csi_needs_gstreamer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "    GStreamer:                   NO\n")
    with pytest.raises(SourceUnavailable, match="built with GStreamer"):
        open_raw("csi://0")


def test_csi_on_a_jetson(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[object] = []
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GStreamer:         YES (1.20.3)\n")
    monkeypatch.setattr(csi, "_JETSON", tmp_path)
    monkeypatch.setattr(csi, "open_capture", lambda *arguments: asked.extend(arguments))
    open_raw("csi://1?width=640&height=480&fps=60")
    assert asked == [
        "csi://1 (nvarguscamerasrc)",
        "nvarguscamerasrc sensor-id=1 ! "
        "video/x-raw(memory:NVMM),width=640,height=480,framerate=60/1 ! "
        "nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! "
        "appsink drop=true max-buffers=1 sync=false",
        "CAP_GSTREAMER",
        {"CAP_PROP_READ_TIMEOUT_MSEC": 5000.0},
    ]


def test_csi_on_a_raspberry_pi() -> None:
    assert csi.pipeline(False, 0, 1280, 720, 30) == (
        "libcamerasrc ! video/x-raw,width=1280,height=720,framerate=30/1 ! "
        "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
    )
    with pytest.raises(SourceUnavailable, match="only csi://0"):
        csi.pipeline(False, 1, 1280, 720, 30)
