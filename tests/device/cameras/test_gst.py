"""GStreamer's pipelines, run for real where it is installed."""

import ctypes
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from edgekit import plugins
from edgekit.device.cameras import _gstreamer
from edgekit.device.cameras.gst import Pipeline
from edgekit.device.frame import Camera, Frame
from edgekit.device.uri import parse_source
from edgekit.errors import SourceUnavailable, SpecError

needed = pytest.mark.skipif(
    not (_gstreamer.installed() and shutil.which("gst-inspect-1.0")),
    reason="needs GStreamer: scripts/install_system_packages",
)
RED = "videotestsrc is-live=true pattern=red"


def opened(text: str) -> Camera:
    camera: Camera = plugins.camera("gst").open_camera(parse_source(f"gst://{text}"))
    return camera


def frames(camera: Camera) -> Iterator[Frame]:
    while (frame := camera.read()) is not None:
        yield frame


@needed
@pytest.mark.parametrize(
    ("name", "of", "means"),
    [
        ("NV12", "NV12", [81, 165]),
        ("I420", "I420", [81, 90, 240]),
        ("YUY2", "YUYV", [123]),
        ("GRAY8", "GREY", [81]),
        ("BGR", "BGR", [85]),
        ("RGB", "RGB", [85]),
    ],
)
@pytest.mark.parametrize("width", [640, 322])
def test_buffers_are_mapped(name: str, of: str, means: list[float], width: int) -> None:
    caps = f"video/x-raw,format={name},width={width},height=242,framerate=100/1"
    with closing(opened(f"{RED} ! {caps}")) as camera:
        sequence, captured_ns = -1, 0
        for _ in range(4):
            with camera.read() as frame:  # type: ignore[union-attr]
                assert frame.sequence > sequence
                assert frame.captured_ns > captured_ns
                sequence, captured_ns = frame.sequence, frame.captured_ns
                assert 0 <= time.monotonic_ns() - captured_ns < 10**9
                lent = frame.picture
                assert (lent.format, lent.width, lent.height) == (of, width, 242)
                assert [round(plane.mean()) for plane in lent.planes] == means
                assert lent.planes[0].strides[0] >= width
                assert not any(
                    plane.flags.writeable or plane.flags.owndata for plane in lent.planes
                )
        assert camera.copies.by_reason == {}


@needed
def test_jpegs_are_lent_as_they_are() -> None:
    import cv2

    with (
        closing(opened(f"{RED} ! video/x-raw,width=64,height=48 ! jpegenc")) as camera,
        camera.read() as frame,  # type: ignore[union-attr]
    ):
        lent = frame.picture
        assert (lent.format, lent.width, lent.height, lent.full_range) == ("MJPEG", 64, 48, True)
        decoded = cv2.imdecode(lent.planes[0], cv2.IMREAD_COLOR)
        assert decoded is not None
        assert decoded.shape == (48, 64, 3)


@needed
def test_the_matrix_and_the_range_are_the_streams() -> None:
    for colorimetry, matrix, full in (("bt601", "bt601", False), ("bt709", "bt709", False),
                                      ("1:4:0:0", "bt601", True)):  # fmt: skip
        caps = f"video/x-raw,format=NV12,width=64,height=48,colorimetry={colorimetry}"
        with closing(opened(f"{RED} ! {caps}")) as camera, camera.read() as frame:  # type: ignore[union-attr]
            assert (frame.picture.matrix, frame.picture.full_range) == (matrix, full)


@needed
def test_the_newest_frame_wins_and_drops_are_counted() -> None:
    caps = "video/x-raw,format=GRAY8,width=64,height=48,framerate=100/1"
    with closing(opened(f"{RED} ! {caps}")) as camera:
        first = camera.read()
        time.sleep(0.5)
        camera.read().release()  # type: ignore[union-attr]
        third = camera.read()
        assert first is not None
        assert third is not None
        assert time.monotonic_ns() - third.captured_ns < 0.25e9  # not half a second old
        made = third.sequence - first.sequence
        assert made == pytest.approx((third.captured_ns - first.captured_ns) / 1e7, abs=1)
        assert made >= 40


@needed
def test_frames_outlive_the_pipeline() -> None:
    camera = opened(f"{RED} ! video/x-raw,format=GRAY8,width=640,height=480")
    kept = [camera.read() for _ in range(3)]
    camera.close()
    camera.close()
    assert camera.read() is None
    for frame in kept:
        assert frame is not None
        assert (frame.picture.planes[0] == 81).all()
        frame.release()


@needed
def test_a_change_of_size_on_the_way() -> None:
    small, large = ("video/x-raw,format=GRAY8,width=64,height=48",
                    "video/x-raw,format=GRAY8,width=128,height=96")  # fmt: skip
    text = (
        f"concat name=c videotestsrc num-buffers=20 ! {small} ! c. "
        f"videotestsrc num-buffers=20 ! {large} ! c. c. ! identity sleep-time=5000"
    )
    with closing(opened(text)) as camera:
        widths = []
        for frame in frames(camera):
            with frame:
                widths.append(frame.picture.planes[0].shape[1])
    assert set(widths) == {64, 128}
    assert widths == sorted(widths)


@needed
def test_the_end() -> None:
    with closing(opened(f"{RED} num-buffers=5 ! video/x-raw,framerate=100/1")) as camera:
        assert 1 <= len(list(frames(camera))) <= 4  # the first one proves that it runs
        assert camera.read() is None


@needed
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nosuchelement", r'cannot be made: no element "nosuchelement"; .*apt install gstreamer1'),
        ("videotestsrc ! !", "cannot be made: "),
        ("v4l2src device=/dev/video99", "failed after frame 0: Cannot identify device"),
        ("videotestsrc ! audioconvert", "cannot be made: could not link"),
        ("videotestsrc num-buffers=0", "ended before its first frame"),
        ("videotestsrc ! tee ! video/x-raw,format=Y444", "end it with ! videoconvert"),
    ],
)
def test_pipelines_that_do_not_run(text: str, message: str) -> None:
    with pytest.raises(SourceUnavailable, match=message):
        opened(text)


@needed
def test_an_element_that_fails() -> None:
    with (
        closing(opened(f"{RED} ! video/x-raw,framerate=100/1 ! identity error-after=4")) as camera,
        pytest.raises(SourceUnavailable, match="gst://videotestsrc failed after frame"),
    ):
        list(frames(camera))


@needed
def test_silence_has_an_end() -> None:
    silent = "videotestsrc is-live=true num-buffers=3 ! identity sleep-time=800000"
    started = time.monotonic()
    with (
        pytest.raises(SourceUnavailable, match="gave no frame for 0.3 s"),
        closing(opened(f"{silent}?deadline=0.3")),
    ):
        pass
    assert time.monotonic() - started < 3


@needed
def test_closing_ends_a_read_that_waits() -> None:
    camera = opened("videotestsrc is-live=true ! video/x-raw,framerate=1/3?deadline=20")
    answers: list[Frame | None] = []
    reader = threading.Thread(target=lambda: answers.append(camera.read()))
    reader.start()
    reader.join(0.2)
    camera.close()
    reader.join(5)
    assert answers == [None]


@needed
def test_what_an_element_copies_is_counted() -> None:
    caps = "video/x-raw,format=NV12,width=64,height=48"
    with closing(Pipeline(f"{RED} ! {caps}", "a pipeline", 5, "some element: why")) as camera:
        camera.read().release()  # type: ignore[union-attr]
        assert camera.copies.by_reason == {("frame", "some element: why"): 64 * 48 * 3 // 2}


@pytest.mark.parametrize("text", ["", "videotestsrc ! appsink"])
def test_a_text_that_is_no_source(text: str) -> None:
    with pytest.raises(SpecError, match="gst://PIPELINE without a sink"):
        opened(text)


def test_a_text_may_be_url_encoded() -> None:
    uri = parse_source("gst://filesrc%20location%3Da%3Fb.mp4?deadline=2")
    assert uri.place == "filesrc location=a?b.mp4"


def test_without_gstreamer(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ctypes.CDLL:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    _gstreamer.library.cache_clear()
    with pytest.raises(SourceUnavailable, match="sudo apt install gstreamer1.0-plugins-base"):
        opened("videotestsrc")
    assert not _gstreamer.installed()


@pytest.mark.skipif(sys.maxsize < 2**32, reason="sizes of 64-bit systems")
def test_structures_are_as_the_headers_have_them() -> None:
    """Sizes and offsets that a C compiler gave for GStreamer 1.22's headers on x86-64."""
    sizes = {_gstreamer.MapInfo: 104, _gstreamer.VideoInfo: 152, _gstreamer.VideoFrame: 664,
             _gstreamer.Buffer: 112, _gstreamer.MiniObject: 64}  # fmt: skip
    assert {kind: ctypes.sizeof(kind) for kind in sizes} == sizes
    assert _gstreamer.Buffer.pts.offset == 72
    assert _gstreamer.Buffer.offset.offset == 96
    assert _gstreamer.VideoInfo.range.offset == 40
    assert _gstreamer.VideoInfo.stride.offset == 104
    assert _gstreamer.VideoFrame.data.offset == 184
