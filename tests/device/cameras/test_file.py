"""Clips: every frame or by the clock, turned or damaged or without an end."""

import itertools
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edgekit.device.frame import Camera, Frame
from edgekit.device.image import full_bgr
from edgekit.device.uri import open_camera
from edgekit.errors import ImageError, UnknownName


def frames(camera: Camera) -> Iterator[Frame]:
    while (frame := camera.read()) is not None:
        yield frame


def test_the_colours_of_a_clip(clip: Path) -> None:
    with closing(open_camera(str(clip))) as camera:
        for frame in frames(camera):
            with frame:
                assert frame.picture.format == "I420"
                second = int(frame.time_s)
                shown = full_bgr(frame.picture)[..., ::-1].mean((0, 1))
                assert np.abs(shown - [220 - 200 * (n != second) for n in range(3)]).max() < 6
        assert camera.copies.by_reason == {}  # the decoder's own planes
        assert camera.kind == "clip"


def test_a_clip_by_the_clock(clip: Path) -> None:
    with closing(open_camera(f"{clip}?pace=realtime")) as camera:
        assert camera.kind == "live"
        started, stamps = time.monotonic(), []
        for _ in range(4):
            frame = camera.read()
            assert frame is not None
            stamps.append(frame.captured_ns)
        assert 0.29 < time.monotonic() - started < 2
        np.testing.assert_allclose(np.diff(stamps), 1e8, atol=2)


@pytest.mark.parametrize("content", [b"", b"no video at all" * 99])
def test_what_is_no_clip(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="cannot open the clip"):
        open_camera(str(path))


def test_a_clip_that_is_cut_short(clip: Path, tmp_path: Path) -> None:
    import av

    path = tmp_path / "cut.mkv"
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    path.write_bytes(path.read_bytes()[:900])
    with closing(open_camera(str(path))) as camera:
        count = sum(1 for _ in frames(camera))  # what is whole is used
    assert 0 < count < 30


def test_a_sound_file_has_no_video_in_it(tmp_path: Path) -> None:
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.rate = 44100
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    with pytest.raises(ImageError, match="has no video in it"):
        open_camera(str(path))


TURNED = {  # the matrix of a track's header, 16.16 fixed point: a b u c d v x y w
    0: (1, 0, 0, 1),
    1: (0, -1, 1, 0),
    2: (-1, 0, 0, -1),
    3: (0, 1, -1, 0),
}


@pytest.mark.parametrize("turns", TURNED)
def test_a_clip_that_was_recorded_sideways(clip: Path, tmp_path: Path, turns: int) -> None:
    data = bytearray(clip.read_bytes())
    matrix = data.index(b"tkhd") + 44
    a, b, c, d = (int(value * 0x10000).to_bytes(4, "big", signed=True) for value in TURNED[turns])
    one, zero = (0x40000000).to_bytes(4, "big"), bytes(4)
    assert data[matrix + 32 : matrix + 36] == one
    data[matrix : matrix + 36] = b"".join((a, b, zero, c, d, zero, zero, zero, one))
    path = tmp_path / "turned.mp4"
    path.write_bytes(data)
    with closing(open_camera(str(path))) as camera:
        frame = camera.read()
        assert frame is not None
        assert frame.picture.turns == turns
        assert (frame.picture.width, frame.picture.height) == (64, 48)  # as it lies in memory
        assert frame.picture.upright_size == ((48, 64) if turns % 2 else (64, 48))
        assert camera.copies.by_reason == {}


def test_a_clip_without_an_end(clip: Path) -> None:
    with closing(open_camera(f"{clip}?loop=1")) as camera:
        numbers, times = [], []
        for frame in itertools.islice(frames(camera), 75):
            with frame:
                numbers.append(frame.sequence)
                times.append(frame.time_s)
        assert numbers == list(range(75))
        np.testing.assert_allclose(times, np.arange(75) / 10, atol=1e-6)


def test_loop_is_on_or_off(clip: Path) -> None:
    with pytest.raises(UnknownName, match="loop of file:// 'yes'.*0, 1"):
        open_camera(f"file://{clip}?loop=yes")


def test_a_closed_clip_has_no_frames(clip: Path) -> None:
    camera = open_camera(str(clip))
    camera.close()
    camera.close()
    assert camera.read() is None
