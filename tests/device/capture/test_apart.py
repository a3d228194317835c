"""Capture in a process of its own, and what happens to it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import pytest

from edgekit.bundle import Bundle
from edgekit.device.capture import apart
from edgekit.device.capture.apart import Apart, Opener
from edgekit.device.capture.steady import Steady
from edgekit.device.image import full_bgr
from edgekit.device.loop import Loop
from edgekit.device.session import open_session
from edgekit.device.uri import open_camera, open_raw
from edgekit.errors import ImageError, SourceUnavailable, SpecError, UnknownName
from edgekit.spec import LoopOptions

pytestmark = pytest.mark.skipif(not apart.possible(), reason="memory is passed as Linux does")

APART = LoopOptions(capture="process")
LIVE = "synthetic://64x48@200"


@pytest.mark.parametrize("of", ["bgr", "nv12", "i420", "yuyv", "grey", "mjpeg"])
def test_its_frames_are_those_of_the_camera(of: str) -> None:
    source = f"{LIVE}?format={of}&frames=40"
    with closing(open_raw(source)) as here:
        frames = iter(here.read, None)
        expected = {frame.sequence: full_bgr(frame.picture) for frame in frames}
    with closing(Opener()(source)) as there:
        seen = 0
        for frame in iter(there.read, None):
            with frame:
                assert 0 <= time.monotonic_ns() - frame.captured_ns < 10**10
                np.testing.assert_array_equal(full_bgr(frame.picture), expected[frame.sequence])
                seen += 1
        assert 5 < seen <= 40
        taken = there.copies.total("frame")
        assert taken >= seen * (48 * 64 if of != "mjpeg" else 100)


def test_the_newest_frame_is_given() -> None:
    with closing(Opener()("synthetic://64x48@100")) as camera:
        first = camera.read()
        assert first is not None
        first.release()
        time.sleep(0.5)
        frame = camera.read()
        assert frame is not None
        assert frame.sequence - first.sequence >= 45
        assert time.monotonic_ns() - frame.captured_ns < 100_000_000


def test_memory_is_read_only_and_outlives_the_camera() -> None:
    with closing(Opener()(LIVE)) as camera:
        frame = camera.read()
    assert frame is not None
    (plane,) = frame.picture.planes
    assert not plane.flags.writeable
    assert plane.any()
    frame.release()
    camera.close()


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("synthetic://64x48@200?colour=1", UnknownName, "option of synthetic:// 'colour'"),
        ("synthetic://64x48", SpecError, "must be synthetic://WIDTHxHEIGHT@FPS"),
        ("nothing.png", ImageError, "no file or folder 'nothing.png'"),
    ],
)
def test_errors_of_opening_are_those_of_the_camera(
    source: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Opener()(source)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_dies_or_stops_is_replaced(
    number: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with closing(open_camera(f"{LIVE}?deadline=0.5", APART)) as camera:
        assert isinstance(camera, Steady)
        before = camera.read()
        assert before is not None
        before.release()
        inner = camera.camera
        assert isinstance(inner, Apart)
        os.kill(inner._process.pid, number)
        after = camera.read()
        while after is not None and camera.restarts == 0:  # sent before it stopped
            after.release()
            after = camera.read()
        assert after is not None
        assert after.sequence > before.sequence
        assert camera.restarts == 1
        assert inner._process.poll() is not None  # the old one does not hold the camera
    assert "starting it again" in capfd.readouterr().err


def use_all(camera: Apart) -> None:
    while (frame := camera.read()) is not None:
        frame.release()


def test_a_silent_camera_has_another_process_stand_by() -> None:
    opener = Opener()
    with closing(opener(f"{LIVE}?fault=stall:3&deadline=2")) as camera:
        for _ in range(2):
            frame = camera.read()
            assert frame is not None
            frame.release()
        with pytest.raises(SourceUnavailable):
            use_all(camera)
        standby = camera.standby
        assert standby is not None
        assert standby.process.poll() is None
    with closing(opener(LIVE)) as camera:
        assert camera._process is standby.process
        assert opener._standby is None
    opener.close()


def test_the_process_that_could_not_open_a_camera_tries_again() -> None:
    opener = Opener()
    opener(LIVE).close()
    tried = []
    for _ in range(2):
        with pytest.raises(ImageError, match=r"no file or folder"):
            opener("nothing.png")
        assert opener._standby is not None
        tried.append(opener._standby.process)
    with closing(opener(LIVE)) as camera:
        assert tried == [camera._process] * 2
    opener.close()


def test_the_process_that_got_no_first_frame_tries_again() -> None:
    opener = Opener()
    opener(LIVE).close()
    tried = []
    for _ in range(2):
        with pytest.raises(SourceUnavailable, match="unplugged before frame 0"):
            opener(f"{LIVE}?fault=unplug:0")
        assert opener._standby is not None
        assert opener._standby.process.poll() is None
        tried.append(opener._standby.process)
    with closing(opener(LIVE)) as camera:
        assert tried == [camera._process] * 2
    opener.close()


def test_an_error_of_the_camera_comes_over() -> None:
    with (
        closing(Opener()(f"{LIVE}?fault=unplug:20")) as camera,
        pytest.raises(SourceUnavailable, match="unplugged before frame 20"),
    ):
        use_all(camera)


def test_it_ends_when_its_owner_is_killed() -> None:
    program = (
        "import os; from edgekit.device.capture.apart import Opener; "
        f"camera = Opener()('{LIVE}'); camera.read().release(); "
        "print(camera._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    owner = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    pid = int(owner.stdout)
    for _ in range(100):
        if not os.path.exists(f"/proc/{pid}"):
            return
        time.sleep(0.05)
    pytest.fail("the capture process outlived its owner by 5 s")


def test_a_loop_over_it(bundle: Bundle) -> None:
    with (
        closing(open_session(bundle)) as session,
        closing(open_camera(f"{LIVE}?frames=60&format=nv12", APART)) as camera,
        Loop(bundle, session, camera) as loop,
    ):
        used = [result.frame.sequence for result in loop]
    assert used == sorted(set(used))
    summary = loop.summary()
    assert summary.produced == used[-1] - used[0] + 1
    assert summary.dropped == summary.produced - len(used)
    copied = 64 * 48 * 3 // 2
    assert summary.reasons["frame: to the process that infers"] == pytest.approx(copied, rel=0.01)
