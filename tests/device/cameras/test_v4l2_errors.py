"""What is said when a V4L2 camera cannot be opened as asked, on a virtual one."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from edgekit.device.cameras._v4l2_controls import controls
from edgekit.device.cameras._v4l2_device import identities
from edgekit.device.cameras.v4l2 import V4l2
from edgekit.device.uri import open_raw
from edgekit.errors import SourceUnavailable, SpecError, UnknownName


@contextmanager
def refused(text: str, match: str, kind: type[Exception] = SourceUnavailable) -> Iterator[None]:
    """Opening fails so, and leaves nothing open."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(kind, match=match):
        open_raw(text)
    assert len(os.listdir("/proc/self/fd")) == before
    yield


def value_of(camera: V4l2, name: str) -> int:
    import fcntl
    import struct

    request = bytearray(struct.pack("<Ii", controls(camera.fd)[name].number, 0))
    fcntl.ioctl(camera.fd, 0xC008561B, request)  # VIDIOC_G_CTRL
    return int(struct.unpack("<Ii", request)[1])


@pytest.mark.virtual_camera(cameras=2, card__1="Other camera")
def test_no_such_camera_names_those_that_are_there() -> None:
    with refused(
        "v4l2://7",
        r"no camera /dev/video7.*cameras here: /dev/video0 \(Virtual camera\), "
        r"/dev/video1 \(Other camera\)",
    ):
        assert [each.path for each in identities()] == ["/dev/video0", "/dev/video1"]


@pytest.mark.virtual_camera(present=0)
def test_no_camera_at_all() -> None:
    with refused("v4l2://", r"no camera /dev/video0 \(No such file.*cameras here: none"):
        assert not identities()


@pytest.mark.virtual_camera(open_error=errno.EACCES)
def test_a_camera_that_may_not_be_opened() -> None:
    with refused("v4l2://0", "no permission to open /dev/video0.*usermod -aG video"):
        pass


def test_what_is_no_device(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    with refused(f"v4l2://{tmp_path}/clip.mp4", "is not a camera device; give one like"):
        pass
    with refused("v4l2:///dev/null", "/dev/null is no V4L2 device"):
        pass


@pytest.mark.virtual_camera(metadata=1)
def test_a_camera_s_metadata_names_where_its_pictures_are() -> None:
    with refused(
        "v4l2://1", r"/dev/video1 \(Virtual camera\) gives no pictures; its pictures are at "
        "/dev/video0: give that"
    ):  # fmt: skip
        pass


HOLDER = """
import sys
from edgekit.device.uri import open_raw
camera = open_raw("v4l2://0")
print("open", flush=True)
sys.stdin.read()
"""


# Tests that run beside these have virtual cameras of the same name: others may be named, too.
@pytest.mark.virtual_camera
def test_a_busy_camera_names_who_uses_it() -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with refused(
            "v4l2://0", rf"/dev/video0 is busy: .*python\S* \(process {holder.pid}\).* uses it"
        ):
            pass
    finally:
        holder.communicate("")
    with closing(open_raw("v4l2://0")):
        pass


@pytest.mark.virtual_camera
def test_a_camera_that_this_program_has_open_already() -> None:
    with (
        closing(open_raw("v4l2://0")),
        refused("v4l2://0", rf"is busy: .*this program \(process {os.getpid()}\).* uses it"),
    ):
        pass


@pytest.mark.virtual_camera(modes="pRAA:640x480@30 BA81:640x480@30")
def test_a_bare_sensor_is_sent_to_libcamera() -> None:
    with refused("v4l2://0", r"gives nothing that can be read; it has: pRAA, BA81;.*picamera://"):
        pass


@pytest.mark.virtual_camera(modes="YUYV:640x480@30")
def test_a_format_that_it_does_not_have() -> None:
    with refused("v4l2://0?format=nv12", "gives no NV12; it has: YUYV; give format="):
        pass


@pytest.mark.virtual_camera(lie="HEVC:640x480")
def test_a_driver_that_answers_what_cannot_be_read() -> None:
    with refused("v4l2://0", "was asked for NV12 640x480.*and gives HEVC"):
        pass


@pytest.mark.virtual_camera
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ("format=h264", "no format of v4l2:// 'h264'.*nv12"),
        ("width=5", "width.*16 to 16384"),
        ("buffers=1", "buffers.*2 to 32"),
        ("deadline=soon", "deadline.*number"),
        ("zoom=2", "no option of v4l2:// 'zoom'.*buffers"),
    ],
)
def test_options_out_of_range(options: str, match: str) -> None:
    with refused(f"v4l2://0?{options}", match, kind=(UnknownName, SpecError)):  # type: ignore[arg-type]
        pass


@pytest.mark.virtual_camera
def test_controls_are_set_by_name() -> None:
    text = (
        "v4l2://0?control.brightness=200&control.auto_exposure=manual_mode"
        "&control.exposure_time_absolute=99&control.horizontal_flip=1"
    )
    with closing(open_raw(text)) as camera:
        assert isinstance(camera, V4l2)
        names = ("brightness", "auto_exposure", "exposure_time_absolute", "horizontal_flip")
        assert [value_of(camera, name) for name in names] == [200, 1, 99, 1]


@pytest.mark.virtual_camera
@pytest.mark.parametrize(
    ("control", "match"),
    [
        ("brightnes=3", r"'brightnes'.*did you mean.*contrast \(0 to 100 in steps of 5\)"),
        ("brightness=256", r"to '256': brightness \(0 to 255\), at first 128"),
        ("brightness=dark", r"to 'dark': brightness \(0 to 255\)"),
        ("contrast=7", r"to '7': contrast \(0 to 100 in steps of 5\)"),
        ("auto_exposure=2", r"auto_exposure \(1: Manual Mode, 3: Aperture Priority Mode\)"),
    ],
)
def test_controls_that_cannot_be_set(control: str, match: str) -> None:
    with refused(f"v4l2://0?control.{control}", match, kind=(UnknownName, SpecError)):  # type: ignore[arg-type]
        pass
