"""The virtual camera, seen by programs that know nothing of us."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.virtual_camera import VirtualCamera


def seen(
    camera: VirtualCamera, package: str, *command: object, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """What a program says that sees the camera; skips where it is not installed."""
    if not shutil.which(str(command[0])):
        pytest.skip(f"needs {command[0]}: apt install {package}")
    return subprocess.run(
        [*map(str, command)], env=camera.environment, check=check, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip


def pattern(width: int, height: int, sequence: int) -> np.ndarray:
    """An NV12 frame as `content.c` makes it: (height * 3 / 2, width)."""
    x, y = np.arange(width), np.arange(height)[:, None]
    planes = [(x + 2 * y[: height // (n + 1)] + 64 * n + 5 * sequence) & 255 for n in range(2)]
    return np.concatenate(planes).astype(np.uint8)


def test_v4l2_ctl_lists_it(virtual_camera: VirtualCamera) -> None:
    virtual_camera.set(modes="NV12:640x480@30,60 YUYV:64x64-1920x1080/2@30", card="A camera")
    said = seen(
        virtual_camera, "v4l-utils",
        "v4l2-ctl", "-d", "/dev/video0", "--info", "--list-formats-ext", "--list-ctrls-menus",
    ).stdout  # fmt: skip
    for line in (
        "Card type        : A camera",
        "'NV12' (Y/CbCr 4:2:0)",
        "Size: Discrete 640x480",
        "Interval: Discrete 0.017s (60.000 fps)",
        "Size: Stepwise 64x64 - 1920x1080 with step 2/2",
        "brightness 0x00980900 (int)    : min=0 max=255 step=1 default=128 value=128",
        "3: Aperture Priority Mode",
    ):
        assert line in said


def test_v4l2_ctl_captures_from_it(virtual_camera: VirtualCamera, tmp_path: Path) -> None:
    virtual_camera.set(modes="NV12:64x48@60")
    seen(
        virtual_camera, "v4l-utils",
        "v4l2-ctl", "-d", "0", "--set-ctrl", "brightness=7", "--stream-mmap",
        "--stream-count=4", f"--stream-to={tmp_path / 'raw'}",
    )  # fmt: skip
    frames = np.fromfile(tmp_path / "raw", np.uint8).reshape(4, 72, 64)
    for sequence, frame in enumerate(frames):
        np.testing.assert_array_equal(frame, pattern(64, 48, sequence))


# What a real driver has and this one does not: a format and controls shared by all who have it
# open, priorities, events of controls, read(2), epoll, requests.
NOT_THERE = {
    "VIDIOC_G/S_PRIORITY",
    "for unlimited opens",
    "VIDIOC_G/S/TRY_EXT_CTRLS",
    "VIDIOC_(UN)SUBSCRIBE_EVENT/DQEVENT",
    "VIDIOC_S_FMT",
    "Requests",
    "read/write",
    "MMAP (epoll)",
}
THERE = {
    "VIDIOC_QUERYCAP",
    "invalid ioctls",
    "second /dev/video0 open",
    "VIDIOC_G/S/ENUMINPUT",
    "VIDIOC_QUERY_EXT_CTRL/QUERYMENU",
    "VIDIOC_QUERYCTRL",
    "VIDIOC_G/S_CTRL",
    "VIDIOC_ENUM_FMT/FRAMESIZES/FRAMEINTERVALS",
    "VIDIOC_G/S_PARM",
    "VIDIOC_G_FMT",
    "VIDIOC_TRY_FMT",
    "VIDIOC_REQBUFS/CREATE_BUFS/QUERYBUF",
    "VIDIOC_EXPBUF",
    "blocking wait",
    "MMAP (no poll)",
    "MMAP (select)",
}


@pytest.mark.parametrize("mplane", [0, 1])
def test_the_kernel_s_compliance_test(mplane: int, virtual_camera: VirtualCamera) -> None:
    virtual_camera.set(modes="NV12:64x48@60,30 YUYV:64x48@60 YUYV:32x32@60", mplane=mplane)
    done = seen(
        virtual_camera, "v4l-utils",
        "v4l2-compliance", "-d", "/dev/video0", "-s5", check=False,
    )  # fmt: skip
    results = re.findall(r"\ttest ([^\n\t]+?): (OK|FAIL)(?! \(Not)", done.stdout)
    failed = {name for name, result in results if result == "FAIL"}
    assert failed <= NOT_THERE, done.stdout
    assert {name for name, result in results if result == "OK"} >= THERE, done.stdout


def test_ffmpeg_captures_from_it(virtual_camera: VirtualCamera, tmp_path: Path) -> None:
    virtual_camera.set(modes="NV12:64x48@60")
    seen(
        virtual_camera, "ffmpeg",
        "ffmpeg", "-v", "error", "-f", "v4l2", "-input_format", "nv12", "-video_size", "64x48",
        "-i", "/dev/video0", "-frames:v", "4", "-f", "rawvideo", "-fps_mode", "passthrough",
        tmp_path / "raw",
    )  # fmt: skip
    frames = np.fromfile(tmp_path / "raw", np.uint8).reshape(4, 72, 64)
    for sequence, frame in enumerate(frames):
        np.testing.assert_array_equal(frame, pattern(64, 48, sequence))


@pytest.mark.virtual_camera(modes="NV12:64x48@60", colour="1,0,0")
def test_opencv_captures_from_it() -> None:
    import cv2

    capture = cv2.VideoCapture("/dev/video0", cv2.CAP_V4L2)
    try:
        capture.set(cv2.CAP_PROP_FOURCC, float(cv2.VideoWriter.fourcc(*"NV12")))
        capture.set(cv2.CAP_PROP_CONVERT_RGB, 0.0)
        numbers = []
        for _ in range(3):
            there, raw = capture.read()
            assert there
            raw = raw.reshape(72, 64)
            number = int(raw[0, 0]) * 205 % 256  # 5 * 205 = 1 (mod 256)
            np.testing.assert_array_equal(raw, pattern(64, 48, number))
            numbers.append(number)
        assert numbers == sorted(set(numbers))
    finally:
        capture.release()


def test_the_launcher(virtual_camera_library: str, root: Path) -> None:
    run = root / "scripts" / "virtual_camera" / "run"
    done = subprocess.run(
        [run, "printenv", "LD_PRELOAD"], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == virtual_camera_library
