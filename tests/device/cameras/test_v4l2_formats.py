"""Which mode of a V4L2 camera is taken, and how its colours are read."""

from contextlib import closing
from typing import Any

import pytest

from edgekit.device.cameras import _v4l2_abi as abi
from edgekit.device.cameras._v4l2_formats import Mode, Wish, choose, colour
from edgekit.device.cameras.v4l2 import V4l2
from edgekit.device.uri import open_raw
from tests.virtual_camera import VirtualCamera

# A USB webcam, a camera with an image processor, and a thermal one.
WEBCAM = (
    "YUYV:640x480@30 YUYV:1280x720@10 YUYV:1920x1080@5 "
    "MJPG:640x480@30 MJPG:1280x720@30 MJPG:1920x1080@30"
)
PROCESSOR = "YU12:64x64-1920x1080/2@30 NV12:64x64-1920x1080/2@30 YUYV:64x64-1920x1080/2@30"
THERMAL = "GREY:160x120@9 BGR3:160x120@9"


@pytest.mark.virtual_camera
@pytest.mark.parametrize(
    ("modes", "options", "expected"),
    [
        (WEBCAM, "", "YUYV 640x480 30"),
        (WEBCAM, "width=320&height=240", "YUYV 640x480 30"),
        (WEBCAM, "width=1280&height=720", "MJPEG 1280x720 30"),
        (WEBCAM, "width=1280&height=720&fps=10", "YUYV 1280x720 10"),
        (WEBCAM, "width=1280&height=720&format=yuyv", "YUYV 1280x720 10"),
        (WEBCAM, "width=800&height=600&fps=5", "YUYV 1280x720 10"),
        (WEBCAM, "width=3840&height=2160", "MJPEG 1920x1080 30"),
        (WEBCAM, "fps=60", "YUYV 640x480 30"),
        (PROCESSOR, "", "NV12 640x480 30"),
        (PROCESSOR, "width=321&height=239&format=i420", "I420 322x240 30"),
        (PROCESSOR, "width=16&height=16", "NV12 64x64 30"),
        (PROCESSOR, "width=9999&height=2000", "NV12 1920x1080 30"),
        (THERMAL, "", "BGR 160x120 9"),
        (THERMAL, "format=grey", "GREY 160x120 9"),
    ],
)
def test_the_mode_that_is_taken(
    modes: str, options: str, expected: str, virtual_camera: VirtualCamera
) -> None:
    virtual_camera.set(modes=modes)
    with closing(open_raw(f"v4l2://0?{options}" if options else "v4l2://0")) as camera:
        assert isinstance(camera, V4l2)
        of = camera.layout
        assert f"{of.format} {of.width}x{of.height} {camera.fps:g}" == expected


def test_nothing_covers_the_wish() -> None:
    modes = [
        Mode(abi.fourcc(code), width, height, fps)
        for code, width, height, fps in (
            ("NV12", 320, 240, 30), ("NV12", 640, 480, 15), ("MJPG", 640, 480, 30),
        )
    ]  # fmt: skip
    assert choose(modes, Wish(1280, 720, 30, None)) == modes[2]
    assert choose(modes, Wish(1280, 720, 15, None)) == modes[1]


@pytest.mark.parametrize(
    ("of", "colorspace", "encoding", "quantization", "expected"),
    [
        ("NV12", 8, 0, 0, ("bt601", False)),  # sRGB
        ("NV12", 1, 0, 0, ("bt601", False)),  # SMPTE 170M
        ("NV12", 3, 0, 0, ("bt709", False)),  # Rec. 709
        ("YUYV", 3, 1, 0, ("bt601", False)),  # Rec. 709, but encoded as Rec. 601
        ("YUYV", 8, 2, 1, ("bt709", True)),
        ("I420", 7, 0, 0, ("bt601", True)),  # JPEG
        ("I420", 7, 0, 2, ("bt601", False)),
        ("GREY", 11, 0, 0, ("bt601", True)),  # a bare sensor
        ("GREY", 8, 0, 0, ("bt601", False)),
        ("BGR", 8, 0, 2, ("bt601", True)),
        ("MJPEG", 3, 2, 2, ("bt601", True)),
    ],
)
def test_colours(
    of: Any, colorspace: int, encoding: int, quantization: int, expected: tuple[str, bool]
) -> None:
    assert colour(of, colorspace, encoding, quantization) == expected
