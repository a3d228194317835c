"""Network cameras: a real RTSP server where there is one, and a stream of our own everywhere."""

import io
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from edgekit import plugins
from edgekit.device.cameras.rtsp import Stream, _Clock, _without_ours
from edgekit.device.frame import Camera
from edgekit.device.shown import shown
from edgekit.device.uri import parse_source
from edgekit.errors import SourceUnavailable, UnknownName

SERVER = Path(__file__).with_name("rtsp_server.py")


def _python_with_server() -> str:
    """A Python that can import GStreamer's RTSP server; empty if there is none."""
    question = "import gi; gi.require_version('GstRtspServer', '1.0')"
    for python in (sys.executable, "/usr/bin/python3"):
        if (
            shutil.which(python)
            and not subprocess.run(
                [python, "-c", question], capture_output=True, check=False
            ).returncode
        ):
            return python
    return ""


PYTHON = _python_with_server()
needs_server = pytest.mark.skipif(
    not PYTHON, reason="needs gir1.2-gst-rtsp-server-1.0: scripts/install_system_packages"
)
TEST_PICTURE = (
    "videotestsrc is-live=true pattern=red ! "
    "video/x-raw,format=I420,width=320,height=240,framerate=30/1 ! jpegenc ! rtpjpegpay name=pay0"
)


@contextmanager
def served(pipeline: str, *user: str) -> "Iterator[tuple[subprocess.Popen[str], int]]":
    with subprocess.Popen(
        [PYTHON, str(SERVER), pipeline, *user], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


def read_on(camera: Camera) -> list[int]:
    """Read until it fails."""
    numbers: list[int] = []
    while True:
        with camera.read() as frame:  # type: ignore[union-attr]
            numbers.append(frame.sequence)
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def opened(text: str) -> Camera:
    camera: Camera = plugins.camera("rtsp").open_camera(parse_source(text))
    return camera


@needs_server
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_camera_on_the_network(transport: str) -> None:
    with (
        served(TEST_PICTURE) as (_, port),
        closing(opened(f"rtsp://127.0.0.1:{port}/live?transport={transport}")) as camera,
    ):
        before = -1.0
        for number in range(10):
            with camera.read() as frame:  # type: ignore[union-attr]
                assert frame.sequence == number
                assert frame.time_s > before
                before = frame.time_s
                assert 0 <= time.monotonic_ns() - frame.captured_ns < 10**9
                lent = frame.picture
                assert (lent.format, lent.width, lent.height) == ("I420", 320, 240)
                assert lent.full_range  # RTP carries JPEGs
                # Red. This server writes BT.601's limited range into its JPEGs.
                means = [plane.mean() for plane in lent.planes]
                np.testing.assert_allclose(means, [81, 90, 240], atol=3)
        assert camera.copies.by_reason == {}


@needs_server
@pytest.mark.parametrize(
    ("number", "message"),
    [(signal.SIGKILL, "ended|was lost"), (signal.SIGSTOP, "no answer for 1 s")],
)
def test_a_camera_that_leaves_the_network(number: signal.Signals, message: str) -> None:
    with (
        served(TEST_PICTURE) as (server, port),
        closing(opened(f"rtsp://127.0.0.1:{port}/live?deadline=1")) as camera,
    ):
        camera.read().release()  # type: ignore[union-attr]
        server.send_signal(number)
        started = time.monotonic()
        with pytest.raises(SourceUnavailable, match=message):
            read_on(camera)
        assert time.monotonic() - started < 5
        with pytest.raises(SourceUnavailable, match="open it again"):
            camera.read()


@needs_server
def test_a_camera_with_a_password() -> None:
    with served(TEST_PICTURE, "admin", "s3cret") as (_, port):
        with closing(opened(f"rtsp://admin:s3cret@127.0.0.1:{port}/live")) as camera:
            assert camera.read() is not None
        with pytest.raises(SourceUnavailable, match="check the address, user") as failure:
            opened(f"rtsp://admin:wr0ng@127.0.0.1:{port}/live?token=hidden")
    said = f"{failure.value}{failure.value.__cause__}"
    assert not [secret for secret in ("admin:", "wr0ng", "hidden") if secret in said]


@pytest.mark.parametrize("accepts", [True, False])
def test_an_address_where_no_camera_answers(accepts: bool) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        if accepts:
            mute.listen()
        text = f"rtsp://admin:s3cret@127.0.0.1:{mute.getsockname()[1]}/live?deadline=0.5"
        started = time.monotonic()
        with pytest.raises(SourceUnavailable, match=r"cannot open rtsp://127\.0\.0\.1") as failure:
            opened(text)
    assert time.monotonic() - started < 5
    assert "s3cret" not in f"{failure.value}{failure.value.__cause__}"


def test_options() -> None:
    with pytest.raises(UnknownName, match="transport of rtsp:// 'pigeon'.*tcp, udp"):
        opened("rtsp://127.0.0.1/live?transport=pigeon")
    camera = "rtsp://cam/cam/realmonitor?channel=1&subtype=0"
    assert _without_ours(f"{camera}&transport=udp&deadline=2") == camera
    assert _without_ours("rtsp://cam/live?transport=udp") == "rtsp://cam/live"
    assert _without_ours("rtsp://cam/live") == "rtsp://cam/live"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("rtsp://admin:p@ss@cam:554/live?pwd=1", "rtsp://cam:554/live?..."),
        ("rtsp://cam/live", "rtsp://cam/live"),
        ("http://u:p@cam/video", "http://cam/video"),
        ("v4l2:///dev/video0?width=640", "v4l2:///dev/video0?width=640"),
        ("photos/a@b.png", "photos/a@b.png"),
        ("csi://0", "csi://0"),
        ("gst://rtspsrc user-pw=x ! decodebin", "gst://rtspsrc ..."),
        ("gst://rtspsrc%20user-pw=x", "gst://rtspsrc ..."),
    ],
)
def test_what_is_shown_of_a_source(text: str, safe: str) -> None:
    assert shown(text) == safe


@pytest.fixture(scope="module")
def stream() -> bytes:
    """Two seconds of MPEG-TS at 25 frames a second, 64 x 48."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mpegts") as container:
        video = container.add_stream("mpeg2video", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 25)
        for number in range(50):
            frame = av.VideoFrame.from_ndarray(
                np.full((48, 64, 3), 5 * number, np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return buffer.getvalue()


@contextmanager
def sent(send: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a server that accepts one connection and does `send`."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.settimeout(10)

        def serve() -> None:
            connection = listening.accept()[0]
            with connection:
                send(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"tcp://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(10)
        assert not thread.is_alive()


def test_a_stream_that_ends(stream: bytes) -> None:
    with (
        sent(lambda connection: connection.sendall(stream)) as url,
        closing(Stream(url, "a stream", 5)) as camera,
        pytest.raises(SourceUnavailable, match="a stream ended after frame"),
    ):
        read_on(camera)


@pytest.mark.parametrize("noise", [False, True])
def test_a_stream_that_falls_silent_or_makes_no_sense(stream: bytes, noise: bool) -> None:
    done = threading.Event()
    packet = b"\x47\x01\x00\x10" + bytes(range(184))  # of the video, and nonsense

    def send(connection: socket.socket) -> None:
        connection.sendall(stream)
        while noise and not done.wait(0.01):
            try:
                connection.sendall(packet * 20)
            except OSError:
                return
        done.wait(10)

    with sent(send) as url, closing(Stream(url, "a stream", 0.5)) as camera:
        started = time.monotonic()
        with pytest.raises(SourceUnavailable, match="no answer for|sent nothing that can be"):
            read_on(camera)
        assert time.monotonic() - started < 5
        done.set()


def test_closing_while_a_read_waits(stream: bytes) -> None:
    done = threading.Event()

    def send(connection: socket.socket) -> None:
        connection.sendall(stream)
        done.wait(10)

    with sent(send) as url:
        camera = Stream(url, "a stream", 1)
        answers: list[object] = []

        def read() -> None:
            try:
                while (frame := camera.read()) is not None:
                    frame.release()
            except SourceUnavailable as error:
                answers.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(0.3)
        camera.close()  # does not wait, and does not pull memory away
        reader.join(5)
        assert not reader.is_alive()
        camera.close()
        assert camera.read() is None
        done.set()


def test_sound_is_no_video() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mpegts") as container:
        sound = container.add_stream("mp2", rate=44100)
        for number in range(50):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1152 * 2), np.int16), "s16", "stereo")
            silence.rate, silence.pts = 44100, number * 1152
            container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    with (
        sent(lambda connection: connection.sendall(buffer.getvalue())) as url,
        pytest.raises(SourceUnavailable, match="sends no video"),
    ):
        Stream(url, "a stream", 5)


def test_times_of_a_stream_on_our_clock() -> None:
    clock, second = _Clock(), 10**9
    assert clock.captured(100 * second, 5.0) == 100 * second
    assert clock.captured(101 * second + 10**8, 6.0) == pytest.approx(101 * second, abs=2e6)  # late
    assert clock.captured(102 * second - 10**8, 7.0) == 102 * second - 10**8  # the quickest
    assert clock.captured(103 * second, 1.0) == 103 * second  # set anew: never in the future
    assert clock.captured(104 * second, None) == 104 * second
    for number in range(1, 3600):  # a camera whose clock is 100 ppm slow
        now = (104 + number) * second
        age = now - clock.captured(now, 2.0 + number * (1 - 1e-4))
        assert age < second // 100
