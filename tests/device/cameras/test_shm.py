"""Frames from another process: two real processes, one of which is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from edgekit import plugins
from edgekit.device.cameras.shm import SharedFrames
from edgekit.device.copies import Copies
from edgekit.device.frame import Frame
from edgekit.device.picture import FORMATS, Picture, PixelFormat, bgr, layout
from edgekit.device.publish import Publisher
from edgekit.device.shared import path_of
from edgekit.device.uri import parse_source
from edgekit.errors import SourceUnavailable, SpecError
from tests.device.cameras.waiting import closed_while_reading

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="shm:// needs Linux")

PROGRAM = """
import sys, time
from edgekit.device.picture import layout
from edgekit.device.publish import Publisher

name, pause, slots = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
with Publisher(name, layout("NV12", 640, 480), slots) as publisher:
    print("ready", flush=True)
    number = 0
    while True:
        picture = publisher.take()
        if picture is not None:
            for plane in picture.planes:
                plane[...] = number % 256
        publisher.give()
        number += 1
        time.sleep(pause)
"""


@pytest.fixture
def name(tmp_path: Path) -> Iterator[str]:
    made = f"test-{os.getpid()}-{abs(hash(tmp_path)) % 10**8}"
    yield made
    path_of(made).unlink(missing_ok=True)


@contextmanager
def published(name: str, pause: float = 0.002, slots: int = 6) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", PROGRAM, name, str(pause), str(slots)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


def opened(name: str, options: str = "") -> SharedFrames:
    camera: SharedFrames = plugins.camera("shm").open_camera(parse_source(f"shm://{name}{options}"))
    return camera


def read_on(camera: SharedFrames) -> None:
    """Read until it fails."""
    while True:
        read(camera).release()


def soon(happened: Callable[[], bool]) -> bool:
    """Wait until something happened, for at most 10 s."""
    until = time.monotonic() + 10
    while not happened() and time.monotonic() < until:
        time.sleep(0.01)
    return happened()


def read(camera: SharedFrames) -> Frame:
    frame = camera.read()
    assert frame is not None
    return frame


@pytest.mark.parametrize("slots", [2, 6])
def test_a_frame_is_never_torn_however_fast_it_is_published(name: str, slots: int) -> None:
    with published(name, 0, slots), closing(opened(name)) as camera:
        before, seen = -1, 0
        while seen < 300:
            with read(camera) as frame:
                y, uv = frame.picture.planes
                value = int(y[0, 0])
                for _ in range(3):  # while the publisher goes on
                    assert (y == value).all()
                    assert (uv == value).all()
                assert frame.sequence > before
                assert 0 <= time.monotonic_ns() - frame.captured_ns < 10**9
                before, seen = frame.sequence, seen + 1
        assert camera.copies.by_reason == {}


def test_frames_that_are_kept_stay_as_they_are(name: str) -> None:
    with published(name), closing(opened(name)) as camera:
        kept = [read(camera) for _ in range(3)]
        values = [int(frame.picture.planes[0][0, 0]) for frame in kept]
        for _ in range(50):
            read(camera).release()
        for frame, value in zip(kept, values, strict=True):
            assert (frame.picture.planes[0] == value).all()
            assert (frame.picture.planes[1] == value).all()
        assert len({frame.slot for frame in kept}) == 3
        for frame in kept:
            frame.release()


def test_a_publisher_whose_every_slot_is_read_drops_and_goes_on(name: str) -> None:
    with published(name, slots=4), closing(opened(name)) as camera:
        kept = [read(camera) for _ in range(4)]
        started = time.monotonic()
        time.sleep(0.1)
        last = kept[-1].sequence
        for frame in kept:
            frame.release()
        with read(camera) as frame:
            assert frame.sequence > last + 5  # the drops count
            assert time.monotonic() - started < 5


def test_the_publisher_is_killed(name: str) -> None:
    with published(name) as process, closing(opened(name)) as camera:
        kept = read(camera)
        value = int(kept.picture.planes[0][0, 0])
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        started = time.monotonic()
        with pytest.raises(SourceUnavailable, match="publisher of .* ended, after frame"):
            read_on(camera)
        assert time.monotonic() - started < 2  # long before the deadline
        assert (kept.picture.planes[0] == value).all()
        kept.release()
    with published(name), closing(opened(name)) as camera:  # a new one takes the name over
        read(camera).release()


def test_a_publisher_that_is_killed_while_it_writes(name: str) -> None:
    program = PROGRAM.replace(
        "publisher.give()", "number == 5 and time.sleep(60); publisher.give()"
    )
    command = [sys.executable, "-c", program, name, "0.02", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with closing(opened(name, "?deadline=0.4")) as camera:
            with pytest.raises(SourceUnavailable, match="lives, but gave no frame for 0.4 s"):
                read_on(camera)
            process.kill()
            process.wait()
            with pytest.raises(SourceUnavailable, match="ended"):
                camera.read()


def test_a_publisher_that_is_stopped(name: str) -> None:
    with published(name) as process, closing(opened(name, "?deadline=0.3")) as camera:
        read(camera).release()
        process.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(SourceUnavailable, match="lives, but gave no frame for 0.3 s"):
            read_on(camera)
        assert time.monotonic() - started < 3
        process.send_signal(signal.SIGCONT)
        read(camera).release()  # it comes back


def test_a_reader_that_is_killed_holds_no_slot(name: str) -> None:
    reader = (
        "import sys, time\n"
        "from edgekit.device.cameras.shm import SharedFrames\n"
        "camera = SharedFrames(sys.argv[1], 5)\n"
        "kept = [camera.read() for _ in range(2)]\n"
        "print('holds', flush=True); time.sleep(60)\n"
    )
    small = layout("GREY", 8, 8)
    with Publisher(name, small, 3) as publisher, subprocess.Popen(
        [sys.executable, "-c", reader, name], stdout=subprocess.PIPE, text=True
    ) as process:  # fmt: skip
        assert process.stdout is not None
        stop = threading.Event()
        given: list[bool] = []

        def publish() -> None:
            while not stop.wait(0.005):
                publisher.take()
                given.append(publisher.give())

        thread = threading.Thread(target=publish)
        thread.start()
        assert process.stdout.readline() == "holds\n"
        assert soon(lambda: given[-5:] == [False] * 5)  # two are read, and the third is the newest
        process.kill()
        process.wait()
        assert soon(lambda: given[-5:] == [True] * 5)
        stop.set()
        thread.join()


@pytest.mark.parametrize("of", FORMATS)
def test_every_format_and_padded_rows(name: str, of: PixelFormat) -> None:
    wanted = layout(of, 34, 18, 128 if of != "MJPEG" else 0, nbytes=999 if of == "MJPEG" else 0,
                    matrix="bt709", full_range=True)  # fmt: skip
    memory = np.random.default_rng(0).integers(0, 256, wanted.nbytes, np.uint8)
    source = wanted.over(memory, 500)
    copies = Copies()
    with Publisher(name, wanted, copies=copies) as publisher, closing(opened(name)) as camera:
        publisher.write(source, 12345)
        with read(camera) as frame:
            lent = frame.picture
            assert (lent.format, lent.width, lent.height) == (of, 34, 18)
            assert (lent.matrix, lent.full_range, frame.captured_ns) == ("bt709", True, 12345)
            for plane, expected in zip(lent.planes, source.planes, strict=True):
                np.testing.assert_array_equal(plane, expected)
                assert not plane.flags.writeable
        assert copies.total("frame") == sum(plane.nbytes for plane in source.planes)
        assert camera.layout == wanted
        assert len(camera.regions) == 6
        offset, size = camera.regions[frame.slot]
        raw = np.frombuffer(os.pread(camera.fd, size, offset), np.uint8)
        np.testing.assert_array_equal(wanted.over(raw, 500).planes[0], source.planes[0])


def test_what_was_published_before_is_not_new(name: str) -> None:
    with Publisher(name, layout("GREY", 8, 8)) as publisher:
        publisher.take()
        publisher.give()
        with closing(opened(name, "?deadline=0.05")) as camera, pytest.raises(SourceUnavailable):
            camera.read()


def test_closing_ends_a_read_that_waits_and_leaves_lent_frames_alone(name: str) -> None:
    with Publisher(name, layout("GREY", 8, 8), 2) as publisher:
        camera = opened(name, "?deadline=60")
        publisher.take()
        publisher.give()
        kept = read(camera)
        assert closed_while_reading(camera) == [None]
        camera.close()
        for _ in range(3):  # the slot is still locked
            assert publisher.take() is not None
            publisher.give()
            if publisher.take() is None:
                break
            publisher.give()
        else:
            pytest.fail("the frame that is lent was written anew")
        publisher.give()
        kept.release()
        assert publisher.take() is not None


def test_a_name_has_one_publisher(name: str) -> None:
    with (
        Publisher(name, layout("GREY", 8, 8)),
        pytest.raises(SourceUnavailable, match="another process publishes"),
    ):
        Publisher(name, layout("GREY", 8, 8))
    with Publisher(name, layout("GREY", 4, 4)):
        pass
    assert not path_of(name).exists()
    with pytest.raises(SourceUnavailable, match="nobody publishes shm://"):
        opened(name)


def test_mistakes(name: str) -> None:
    with Publisher(name, layout("BGR", 8, 4)) as publisher:
        with pytest.raises(SpecError, match="8x4 pixels BGR of at most 96 bytes, got 4x8 BGR"):
            publisher.write(bgr(np.zeros((8, 4, 3), np.uint8)))
        publisher.take()
        with pytest.raises(SpecError, match="give the frame"):
            publisher.take()
        publisher.give()
    publisher.close()
    with Publisher(name, layout("MJPEG", 8, 4, nbytes=10)) as publisher:
        jpeg = Picture("MJPEG", 8, 4, (np.zeros(11, np.uint8),))
        with pytest.raises(SpecError, match="at most 10 bytes"):
            publisher.write(jpeg)
    with pytest.raises(SpecError, match="2 to 64 slots, got 1"):
        Publisher(name, layout("GREY", 8, 8), 1)
    for wrong in ("", "a/b", "../x", ".x"):
        with pytest.raises(SpecError, match="no name for shared frames"):
            opened(wrong)


def test_a_file_that_says_what_is_not_so_is_refused(name: str) -> None:
    with Publisher(name, layout("NV12", 64, 48)):
        good = path_of(name).read_bytes()
    lies = [good[:100], good[:5000], b"EDGEKIT9" + good[8:]]
    third_stride = 128 + 8 + 5 * 4  # of a plane that has two
    for at in {8, 16, 24, 28, 40, 48, 56, 64, *range(128, 192, 4)} - {third_stride}:
        lies.append(good[:at] + b"\xff\xff\xff\x7f" + good[at + 4 :])
    for lie in lies:
        path_of(name).write_bytes(lie)
        with pytest.raises(SourceUnavailable, match="cannot be read"):
            opened(name)
