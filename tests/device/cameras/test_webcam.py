"""OpenCV's cameras of a Mac or Windows, played by a fake."""

import sys
import time
from contextlib import closing
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edgekit import plugins
from edgekit.device.cameras import v4l2
from edgekit.device.capture.slots import ALIVE
from edgekit.device.frame import Camera
from edgekit.device.uri import parse_source
from edgekit.errors import SourceUnavailable, SpecError


class FakeCapture:
    """`cv2.VideoCapture` of a camera that gives so many frames and is then unplugged."""

    def __init__(self, count: int, opened: bool = True) -> None:
        self.left, self.asked, self.released = count, dict[int, float](), 0
        self.opened, self.buffers = opened, True

    def isOpened(self) -> bool:  # noqa: N802
        return self.opened

    def set(self, key: int, value: float) -> bool:
        self.asked[key] = value
        return False

    def read(self, out: np.ndarray | None = None) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        if self.left < 0:
            return False, None
        out = out if out is not None and self.buffers else np.zeros((48, 64, 3), np.uint8)
        out[...] = self.left
        return True, out

    def release(self) -> None:
        self.released += 1


@pytest.fixture(params=["darwin", "win32"])
def elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """This is no Linux."""
    monkeypatch.setattr(sys, "platform", request.param)
    return str(request.param)


def opened(text: str, fake: FakeCapture, monkeypatch: pytest.MonkeyPatch) -> Camera:
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: fake)
    camera: Camera = plugins.camera("webcam").open_camera(parse_source(text))
    return camera


def test_a_camera_that_is_unplugged(elsewhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCapture(1 + 2 * ALIVE)
    with closing(opened("webcam://?width=640&fps=15", fake, monkeypatch)) as camera:
        seen = set()
        for number in range(2 * ALIVE):
            with camera.read() as frame:  # type: ignore[union-attr]
                assert frame.sequence == number
                assert 0 <= time.monotonic_ns() - frame.captured_ns < 10**9
                seen.add(frame.picture.planes[0].ctypes.data)
        assert len(seen) <= ALIVE  # the same memory again and again
        assert camera.copies.total("frame") == 2 * ALIVE * 48 * 64 * 3
        for _ in range(ALIVE + 1):  # its memory is not lost with it
            with pytest.raises(SourceUnavailable, match="webcam://0 went away .* after frame 6"):
                camera.read()
    assert fake.released == 1
    assert fake.asked == {cv2.CAP_PROP_FRAME_WIDTH: 640.0, cv2.CAP_PROP_FPS: 15.0}


def test_a_build_of_opencv_that_uses_memory_of_its_own(
    elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeCapture(3)
    fake.buffers = False
    with closing(opened("webcam://0", fake, monkeypatch)) as camera:
        camera.read().release()  # type: ignore[union-attr]
        assert camera.copies.total("frame") == 2 * 48 * 64 * 3


@pytest.mark.parametrize("there", [True, False])
def test_a_camera_that_cannot_be_used_is_released(
    there: bool, elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeCapture(0, there)
    with pytest.raises(SourceUnavailable, match="gives no frame" if there else "cannot be opened"):
        opened("webcam://1", fake, monkeypatch)
    assert fake.released == 1


def test_on_linux_it_is_a_v4l2_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(v4l2, "open_camera", lambda uri: SimpleNamespace(uri=uri))
    camera = plugins.camera("webcam").open_camera(parse_source("webcam://3?width=640"))
    assert (camera.uri.scheme, camera.uri.place) == ("v4l2", "/dev/video3")
    assert camera.uri.options == {"width": "640"}


def test_a_camera_has_a_number() -> None:
    with pytest.raises(SpecError, match="the camera of 'webcam://front' must be a number"):
        plugins.camera("webcam").open_camera(parse_source("webcam://front"))
