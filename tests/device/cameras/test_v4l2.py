"""V4L2 cameras, on a virtual one: pixels, drops, timestamps, memory, other processes."""

import mmap
import os
import resource
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edgekit.device.cameras.v4l2 import V4l2
from edgekit.device.picture import Picture
from edgekit.device.uri import open_camera, open_raw
from edgekit.errors import SpecError
from tests.virtual_camera import VirtualCamera


def opened(text: str = "v4l2://0") -> V4l2:
    camera = open_raw(text)
    assert isinstance(camera, V4l2)
    return camera


def pattern(picture: Picture, sequence: int) -> list[np.ndarray]:
    """The planes of frame `sequence`, as `scripts/virtual_camera/content.c` makes them."""
    made = []
    for number, plane in enumerate(picture.planes):
        x, y = np.arange(np.prod(plane.shape[1:])), np.arange(plane.shape[0])[:, None]
        flat = (x + 2 * y + 64 * number + 5 * sequence) & 255
        made.append(flat.astype(np.uint8).reshape(plane.shape))
    return made


def assert_pixels(picture: Picture, sequence: int) -> None:
    for plane, expected in zip(picture.planes, pattern(picture, sequence), strict=True):
        np.testing.assert_array_equal(plane, expected)


@pytest.mark.virtual_camera
@pytest.mark.parametrize("mplane", [0, 1])
@pytest.mark.parametrize("of", ["nv12", "yuyv", "i420", "bgr", "rgb", "grey"])
def test_the_pixels_of_every_format(of: str, mplane: int, virtual_camera: VirtualCamera) -> None:
    virtual_camera.set(stride=2048, mplane=mplane)
    with closing(opened(f"v4l2:///dev/video0?format={of}&fps=60")) as camera:
        assert camera.layout.format == of.upper()
        for _ in range(3):
            with camera.read() as frame:
                assert (frame.picture.width, frame.picture.height) == (640, 480)
                assert frame.picture.planes[0].strides[0] == 2048
                assert_pixels(frame.picture, frame.sequence)
    assert not camera.copies.by_reason


@pytest.mark.virtual_camera
@pytest.mark.parametrize("of", ["NV12", "YU12", "YUYV"])
def test_odd_sizes(of: str, virtual_camera: VirtualCamera) -> None:
    virtual_camera.set(modes=f"{of}:67x35@60")
    with closing(opened("v4l2://0?width=67&height=35")) as camera, camera.read() as frame:
        assert (frame.picture.width, frame.picture.height) == (67, 35)
        assert_pixels(frame.picture, frame.sequence)


@pytest.mark.virtual_camera
def test_the_frames_of_a_file(virtual_camera: VirtualCamera, tmp_path: Path) -> None:
    film = np.random.default_rng(0).integers(0, 256, (3, 72, 64), np.uint8)
    film.tofile(tmp_path / "film.nv12")
    virtual_camera.set(modes="NV12:64x48@60", stride=128, frames=tmp_path / "film.nv12")
    with closing(opened()) as camera:
        for _ in range(4):
            with camera.read() as frame:
                y, uv = frame.picture.planes
                expected = film[frame.sequence % 3]
                np.testing.assert_array_equal(y, expected[:48])
                np.testing.assert_array_equal(uv, expected[48:].reshape(24, 32, 2))


@pytest.mark.virtual_camera
def test_jpegs_of_different_lengths(virtual_camera: VirtualCamera, tmp_path: Path) -> None:
    import cv2

    from edgekit.device.image import full_bgr

    photos = [np.full((48, 64, 3), (40 * n, 90, 200 - 40 * n), np.uint8) for n in range(3)]
    encoded = [cv2.imencode(".jpg", photo)[1].tobytes() for photo in photos]
    (tmp_path / "film.mjpeg").write_bytes(b"".join(encoded))
    virtual_camera.set(modes="MJPG:64x48@60", jpegs=tmp_path / "film.mjpeg")
    with closing(opened()) as camera:
        for _ in range(4):
            with camera.read() as frame:
                assert frame.picture.planes[0].tobytes() == encoded[frame.sequence % 3]
                shown = full_bgr(frame.picture).astype(int)
                assert np.abs(shown - photos[frame.sequence % 3]).max() < 8


@pytest.mark.virtual_camera(modes="NV12:64x48@100")
def test_the_newest_frame_wins_and_every_frame_is_counted() -> None:
    with closing(opened("v4l2://0?fps=100&buffers=3")) as camera:
        with camera.read() as frame:
            first = frame.captured_ns - frame.sequence * 10_000_000
        for _ in range(3):
            time.sleep(0.1)  # longer than the driver has buffers: its oldest frames wait, stale
            with camera.read() as frame:
                late = frame.sequence
                assert_pixels(frame.picture, late)
                assert frame.captured_ns == pytest.approx(first + late * 10_000_000, abs=2000)
            with camera.read() as frame:  # this one is new, and says what was lost
                assert frame.sequence >= late + 7
                assert frame.captured_ns == pytest.approx(
                    first + frame.sequence * 10_000_000, abs=2000
                )
                assert time.monotonic_ns() - frame.captured_ns < 50_000_000
        assert (camera.faults, camera.backwards) == (0, 0)


@pytest.mark.virtual_camera(modes="NV12:64x48@100", colour="3,0,1")
def test_what_the_driver_says_of_colour_is_kept() -> None:
    with closing(opened()) as camera, camera.read() as frame:
        assert (frame.picture.matrix, frame.picture.full_range) == ("bt709", True)


@pytest.mark.virtual_camera(lie="YUYV:176x144", stride=400)
def test_a_driver_that_answers_something_else_is_believed() -> None:
    camera = opened("v4l2://0?format=nv12&width=640&height=480")
    with closing(camera), camera.read() as frame:
        picture = frame.picture
        assert (picture.format, picture.width, picture.height) == ("YUYV", 176, 144)
        assert_pixels(picture, frame.sequence)


@pytest.mark.virtual_camera(buffers=2)
def test_a_driver_that_gives_fewer_buffers() -> None:
    with closing(opened("v4l2://0?buffers=8&fps=60")) as camera:
        assert len(camera.regions) == 2
        for _ in range(4):
            camera.read().release()


@pytest.mark.virtual_camera
def test_all_buffers_lent_is_an_error_and_no_wait() -> None:
    with closing(opened("v4l2://0?buffers=2&fps=60")) as camera:
        frames = [camera.read(), camera.read()]
        with pytest.raises(SpecError, match="all 2 frames of /dev/video0 are lent"):
            camera.read()
        for frame in frames:
            frame.release()
        camera.read().release()


@pytest.mark.virtual_camera
def test_a_frame_outlives_its_camera() -> None:
    camera = opened("v4l2://0?fps=60")
    frame = camera.read()
    camera.close()
    camera.close()
    with closing(opened("v4l2://0?fps=60")) as again:  # the first one is free for others
        again.read().release()
        assert_pixels(frame.picture, frame.sequence)
        frame.release()
        with pytest.raises(SpecError, match="released twice"):
            frame.release()
        again.read().release()
    with pytest.raises(SpecError, match="was closed"):
        camera.read()


@pytest.mark.virtual_camera
def test_closing_leaves_no_file_and_no_memory_behind() -> None:
    def held() -> tuple[int, int]:
        maps = Path("/proc/self/maps").read_text().count("virtual-camera")
        return len(os.listdir("/proc/self/fd")), maps

    opened().close()
    before = held()
    for _ in range(3):
        camera = opened("v4l2://0?fps=60")
        camera.read().release()
        camera.close()
    assert held() == before


@pytest.mark.virtual_camera(free=1, still=1)
def test_frames_take_no_memory() -> None:
    with closing(opened("v4l2://0?width=1280&height=720")) as camera:
        for _ in range(200):
            camera.read().release()
        tracemalloc.start()
        start, faults = tracemalloc.get_traced_memory()[0], _page_faults()
        for _ in range(1000):
            camera.read().release()
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert kept - start < 2000
    assert peak - start < 4000
    assert _page_faults() - faults < 50  # of 1000 frames: tracemalloc's own


def _page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


@pytest.mark.virtual_camera(strange_clock=1)
def test_a_driver_with_a_clock_of_its_own() -> None:
    with closing(opened("v4l2://0?fps=60")) as camera:
        for _ in range(3):
            before = time.monotonic_ns()
            with camera.read() as frame:
                assert before < frame.captured_ns < time.monotonic_ns()


@pytest.mark.virtual_camera
def test_the_deadline_is_short_after_the_first_frame() -> None:
    with closing(opened("v4l2://0?fps=60")) as camera:
        assert camera.deadline_s == 5.0
        camera.read().release()
        assert camera.deadline_s == 1.0
    with closing(opened("v4l2://0?fps=60&deadline=0.25")) as camera:
        camera.read().release()
        assert camera.deadline_s == 0.25


@pytest.mark.virtual_camera(modes="NV12:64x48@100")
def test_frames_released_by_another_thread() -> None:
    with closing(opened("v4l2://0?fps=100")) as camera:
        for _ in range(20):
            thread = threading.Thread(target=camera.read().release)
            thread.start()
            thread.join()
        assert 0 in camera._stream.lent


MAPPER = """
import mmap, socket, sys
connection = socket.socket(fileno=int(sys.argv[1]))
message, (fd,), _, _ = socket.recv_fds(connection, 100, 1)
offset, length, used = map(int, message.split())
with mmap.mmap(fd, length, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset) as memory:
    connection.sendall(memory[:used])
"""


@pytest.mark.virtual_camera(modes="YUYV:64x48@60")
@pytest.mark.parametrize("preloaded", [True, False])
def test_another_process_maps_the_driver_s_memory(preloaded: bool) -> None:
    ours, theirs = socket.socketpair()
    environment = dict(os.environ)
    if not preloaded:
        del environment["LD_PRELOAD"]
    with closing(opened()) as camera, ours, theirs:
        camera.read().release()
        with camera.read() as frame:
            other = subprocess.Popen(
                [sys.executable, "-c", MAPPER, str(theirs.fileno())],
                pass_fds=[theirs.fileno()], env=environment,
            )  # fmt: skip
            offset, length = camera.regions[frame.slot]
            used = camera.layout.nbytes
            socket.send_fds(ours, [f"{offset} {length} {used}".encode()], [camera.fd])
            got = bytearray()
            while len(got) < used and (part := ours.recv(used)):
                got += part
            assert other.wait(20) == 0
            assert_pixels(camera.layout.over(got), frame.sequence)


@pytest.mark.virtual_camera(modes="YUYV:64x48@60")
def test_a_child_process_opens_it_too() -> None:
    program = (
        "from edgekit.device.uri import open_raw; c = open_raw('v4l2://0'); "
        "print(c.read().picture.format); c.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "YUYV\n"


@pytest.mark.virtual_camera(modes="NV12:64x48@60")
def test_capture_apart_maps_the_driver_s_buffers() -> None:
    with closing(open_camera("v4l2://0")) as camera:
        for _ in range(5):
            frame = camera.read()
            assert frame is not None
            with frame:
                assert_pixels(frame.picture, frame.sequence)
        assert not camera.copies.by_reason


@pytest.mark.virtual_camera
def test_a_buffer_is_exported(virtual_camera: VirtualCamera) -> None:
    for mplane in (0, 1):
        virtual_camera.set(modes="YUYV:64x48@60", mplane=mplane)
        with closing(opened()) as camera:
            camera.read().release()
            with camera.read() as frame:
                fd = camera.export(frame.slot)
                with mmap.mmap(fd, camera.layout.nbytes, prot=mmap.PROT_READ) as memory:
                    assert_pixels(camera.layout.over(bytearray(memory)), frame.sequence)
                os.close(fd)


@pytest.mark.virtual_camera(cameras=2, modes__0="NV12:64x48@60", modes__1="YUYV:32x32@60")
def test_two_cameras_at_once() -> None:
    with closing(opened("v4l2://0")) as one, closing(opened("v4l2://video1")) as two:
        for _ in range(3):
            with one.read() as first, two.read() as second:
                assert (first.picture.format, second.picture.format) == ("NV12", "YUYV")
                assert_pixels(first.picture, first.sequence)
                assert_pixels(second.picture, second.sequence)


@pytest.mark.virtual_camera
@pytest.mark.parametrize(
    "place", ["", "0", "video0", "/dev/video0", "by-id/usb-Virtual_Camera_0-video-index0",
              "/dev/v4l/by-id/usb-Virtual_Camera_0-video-index0"]
)  # fmt: skip
def test_the_names_of_a_camera(place: str) -> None:
    with closing(opened(f"v4l2://{place}")) as camera:
        assert camera.identity.card == "Virtual camera"
