"""The camera that is none: its picture in every format, and the faults that it can be given."""

import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from edgekit import plugins
from edgekit.device.frame import Camera, Frame
from edgekit.device.image import full_bgr
from edgekit.device.picture import FORMATS
from edgekit.device.uri import parse_source
from edgekit.errors import SourceUnavailable, SpecError, UnknownName
from tests.device.cameras.waiting import closed_while_reading


def opened(place: str) -> Camera:
    """As it is, without anybody who opens it again."""
    uri = parse_source(f"synthetic://{place}")
    camera: Camera = plugins.camera("synthetic").open_camera(uri)
    return camera


def frames(camera: Camera) -> Iterator[Frame]:
    while (frame := camera.read()) is not None:
        yield frame


def test_frames_move_and_come_by_the_clock() -> None:
    with closing(opened("8x2@100")) as camera:
        started = time.monotonic()
        shown = []
        for _ in range(9):
            with camera.read() as frame:  # type: ignore[union-attr]
                shown.append(frame.picture.planes[0].copy())
        assert time.monotonic() - started > 0.075
    np.testing.assert_array_equal(shown[1][:, :-2], shown[0][:, 2:])
    np.testing.assert_array_equal(shown[4], shown[0])
    assert camera.copies.by_reason == {}


@pytest.mark.parametrize("size", ["64x48", "65x47", "2x2", "1x1"])
@pytest.mark.parametrize("of", [of for of in FORMATS if of != "GREY"])
def test_every_format_shows_the_same(of: str, size: str) -> None:
    with (
        closing(opened(f"{size}@30?pace=fast&format={of.lower()}&frames=3")) as camera,
        closing(opened(f"{size}@30?pace=fast&frames=3")) as reference,
    ):
        for frame, plain in zip(frames(camera), frames(reference), strict=True):
            assert frame.picture.format == of
            assert (frame.picture.width, frame.picture.height) == tuple(map(int, size.split("x")))
            if of == "MJPEG" and frame.sequence:
                continue  # its eight pictures are further apart
            if of in ("NV12", "I420") and (frame.picture.width % 2 or frame.picture.height % 2):
                continue  # OpenCV, which shows them here, wants even sizes
            expected = plain.picture.planes[0]
            shown = full_bgr(frame.picture).astype(int)[:, : expected.shape[1]]
            if min(shown.shape[:2]) > 2:
                inner = np.abs(shown - expected)[:, 2:-2]  # where columns share a colour
                assert np.percentile(inner, 95) <= (24 if of == "MJPEG" else 8)
    assert camera.copies.by_reason == {}


@pytest.mark.parametrize(
    ("of", "shapes"),
    [
        ("nv12", [(47, 65), (24, 33, 2)]),
        ("i420", [(47, 65), (24, 33), (24, 33)]),
        ("yuyv", [(47, 33, 4)]),
        ("grey", [(47, 65)]),
    ],
)
def test_planes_of_odd_sizes(of: str, shapes: list[tuple[int, ...]]) -> None:
    with closing(opened(f"65x47@30?pace=fast&format={of}&frames=70")) as camera:
        for frame in frames(camera):
            assert [plane.shape for plane in frame.picture.planes] == shapes


def test_a_stall_ends() -> None:
    with closing(opened("8x8@100?fault=stall:3:0.3&frames=6")) as camera:
        stamps = [frame.captured_ns for frame in frames(camera)]
    gaps = np.diff(stamps) / 1e9
    assert len(stamps) == 6
    assert gaps[2] == pytest.approx(0.31, abs=0.005)
    np.testing.assert_allclose(np.delete(gaps, 2), 0.01, atol=1e-4)


def test_a_stall_that_is_longer_than_the_deadline() -> None:
    with closing(opened("8x8@100?fault=stall:2&deadline=0.2")) as camera:
        for _ in range(2):
            camera.read()
        started = time.monotonic()
        with pytest.raises(SourceUnavailable, match="no frame for 0.2 s"):
            camera.read()
        assert 0.19 < time.monotonic() - started < 1.5


@pytest.mark.parametrize("fault", ["stall", "hang"])
def test_closing_ends_a_read_that_waits(fault: str) -> None:
    camera = opened(f"8x8@100?fault={fault}:0&deadline=60")
    assert closed_while_reading(camera) == [None]


def test_an_unplugged_camera_stays_away_until_it_is_opened_again() -> None:
    text = "8x8@500?fault=unplug:2"
    for _ in range(2):
        with closing(opened(text)) as camera:
            assert [camera.read() is not None for _ in range(2)] == [True, True]
            for _ in range(2):
                with pytest.raises(SourceUnavailable, match="unplugged before frame"):
                    camera.read()


def test_a_fault_that_comes_once() -> None:
    text = "8x8@500?fault=unplug:2&once=1&frames=9"
    with closing(opened(text)) as camera, pytest.raises(SourceUnavailable):
        list(frames(camera))
    with closing(opened(text)) as camera:
        assert len(list(frames(camera))) == 9


def test_one_read_that_fails() -> None:
    with closing(opened("8x8@500?fault=error:1&frames=4")) as camera:
        camera.read()
        with pytest.raises(SourceUnavailable, match="failed to read frame 1"):
            camera.read()
        assert [frame.sequence for frame in frames(camera)] == [2, 3]


def test_a_short_frame_is_left_out_and_counted() -> None:
    with closing(opened("8x8@500?fault=short:0,short:2,short:5&frames=6")) as camera:
        assert [frame.sequence for frame in frames(camera)] == [1, 3, 4]


def test_a_short_jpeg_is_given() -> None:
    with closing(opened("64x64@500?format=mjpeg&fault=short:2&frames=4")) as camera:
        sizes = [frame.picture.planes[0].size for frame in frames(camera)]
    assert len(sizes) == 4
    assert sizes[2] < 0.6 * sizes[1]


def test_a_clock_that_goes_back() -> None:
    with closing(opened("8x8@100?fault=back:2:0.5&frames=4")) as camera:
        shown = [(frame.captured_ns, frame.time_s) for frame in frames(camera)]
    captured, times = np.transpose(shown)
    np.testing.assert_allclose(np.diff(times), [0.01, -0.49, 0.51], atol=1e-6)
    np.testing.assert_allclose(np.diff(captured) / 1e9, [0.01, -0.49, 0.51], atol=1e-6)


def test_a_picture_that_changes_its_size() -> None:
    with closing(opened("64x48@500?format=nv12&fault=format:2&frames=4")) as camera:
        sizes = [(frame.picture.width, frame.picture.height) for frame in frames(camera)]
    assert sizes == [(64, 48), (64, 48), (32, 24), (32, 24)]


@pytest.mark.parametrize(
    "place", ["640x480", "x@30", "0x480@30", "640x480@0", "640x480@1.2.3", "9999x1@30"]
)
def test_sizes_that_make_no_sense(place: str) -> None:
    with pytest.raises(SpecError, match=r"synthetic://|must be a number"):
        opened(place)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("melt:3", "no fault 'melt'.*back, error"),
        ("stall", "'stall' of .* must be stall:FRAME or stall:FRAME:SECONDS"),
        ("unplug:3:4", "'unplug:3:4' of .* must be unplug:FRAME, as unplug:100"),
        ("error:x", "the frame of error.*must be a number from 0"),
        ("stall:1:-1", "the seconds of stall"),
    ],
)
def test_faults_that_make_no_sense(fault: str, message: str) -> None:
    with pytest.raises((SpecError, UnknownName), match=message):
        opened(f"8x8@30?fault={fault}")
