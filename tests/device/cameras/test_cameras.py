"""What every camera that needs no hardware keeps, and what each does of its own."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edgekit import plugins
from edgekit.device.frame import Camera, Frame
from edgekit.device.picture import FORMATS
from edgekit.device.uri import open_raw
from edgekit.errors import ImageError, UnknownName

ELSEWHERE = ("csi", "gst", "picamera", "rtsp", "shm", "v4l2", "webcam")
"""They need a camera, and have tests of their own."""
PASSED_ON = ("rtsp",)
"""What they do not know is the camera's own."""


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


@pytest.mark.parametrize("scheme", sorted(set(plugins.cameras()) - set(ELSEWHERE)))
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


@pytest.mark.parametrize("scheme", sorted(set(plugins.cameras()) - set(PASSED_ON)))
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
