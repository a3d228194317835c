import json
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from edgekit import plugins
from edgekit.device.copies import Copies
from edgekit.device.decode import Prediction
from edgekit.device.draw import annotate
from edgekit.device.frame import Frame, nothing
from edgekit.device.image import Order
from edgekit.device.picture import bgr, rgb
from edgekit.device.result import Output, Result
from edgekit.device.uri import open_output
from edgekit.errors import InputError, SourceUnavailable, StorageError, UnknownName

PREDICTIONS = (Prediction(2, "Château", 0.75), Prediction(0, "cat", 0.25))


def result(
    number: int = 0, height: int = 48, width: int = 64, order: Order = "RGB", time_s: float = -1
) -> Result:
    pixels = np.full((height, width, 3), (200, 20, 20), np.uint8)
    pixels.flags.writeable = False
    made = rgb(pixels) if order == "RGB" else bgr(pixels)
    at = number / 10 if time_s < 0 else time_s
    frame = Frame(made, number, 7, at, nothing)
    return Result(frame, PREDICTIONS, 8.1234, 29.9, "rtsp://me:secret@cam/a", "pets")


@pytest.mark.parametrize("scheme", plugins.outputs())
def test_every_output_refuses_options_that_it_does_not_know(scheme: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="option of .* 'colour'"):
        open_output(f"{scheme}://{tmp_path}/out.mp4?colour=1", Copies())


def test_null_takes_all() -> None:
    with closing(open_output("null://", Copies())) as output:
        assert output.write(result())


def test_json_lines_exactly(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    copies = Copies()
    with closing(open_output(f"json://{path}", copies)) as output:
        assert output.write(result(3))
        expected = (
            '{"frame": 3, "captured_ns": 7, "time_s": 0.3, "source": "rtsp://cam/a", "name": "", '
            '"model": "pets", "age_ms": 8.123, "predictions": '
            '[{"index": 2, "label": "Château", "probability": 0.75}, '
            '{"index": 0, "label": "cat", "probability": 0.25}]}\n'
        )
        assert path.read_text(encoding="utf-8") == expected  # there before it is closed
    output.close()
    assert copies.by_reason == {}


def test_json_to_stdout_leaves_it_open(capsys: pytest.CaptureFixture[str]) -> None:
    with closing(open_output("json://-", Copies())) as output:
        output.write(result())
    assert json.loads(capsys.readouterr().out)["frame"] == 0
    assert not sys.stdout.closed


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_json_on_a_full_disk() -> None:
    output = open_output("json:///dev/full", Copies())
    with pytest.raises(StorageError, match="the disk is full"):
        output.write(result())
    with pytest.raises(StorageError, match="the disk is full"):
        output.close()


def test_json_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        open_output(f"json://{tmp_path}/none/out.jsonl", Copies())


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_a_video_is_whole_and_has_its_times(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    copies = Copies()
    output = open_output(str(path), copies)
    for number in (0, 1, 2, 5, 5, 9):
        assert output.write(result(number))
    assert not path.exists()
    output.close()
    output.close()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    with av.open(str(path)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([0, 0.1, 0.2, 0.5, 0.501, 0.9], abs=0.0011)
    assert copies.by_reason["display", "frame to draw on"] == 6 * 48 * 64 * 3


def test_a_video_shows_the_frame_and_the_answers(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with closing(open_output(str(path), Copies())) as output:
        for number in range(3):
            output.write(result(number, 481, 641))  # odd sides lose a line
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert picture.shape == (480, 640, 3)
    assert np.abs(picture[300:400, 400:].mean((0, 1)) - (200, 20, 20)).max() < 8
    bar = picture[53:56, 40:160].mean((0, 1))
    assert bar[1] > 120, "the bar is green"
    assert bar[1] > bar[0] + 40
    assert picture[80:88, 450:, 0].min() > 180, "beside the panel is the frame as it was"


def test_photographs_of_other_sizes_fit_into_the_first_ones(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with closing(open_output(str(path), Copies())) as output:
        output.write(result(0, 48, 64))
        output.write(result(1, 100, 40))
        output.write(result(2, 8, 8))
    with av.open(str(path)) as container:
        assert {(f.height, f.width) for f in container.decode(video=0)} == {(48, 64)}


def test_a_video_without_a_frame_leaves_nothing(tmp_path: Path) -> None:
    open_output(str(tmp_path / "out.mp4"), Copies()).close()
    assert list(tmp_path.iterdir()) == []


def test_a_video_replaces_the_one_before_only_when_it_is_done(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"before")
    output = open_output(str(path), Copies())
    output.write(result())
    assert path.read_bytes() == b"before"
    output.close()
    assert path.read_bytes() != b"before"


def test_a_video_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.device.outputs.file import Video

    output = open_output(str(tmp_path / "out.mp4"), Copies())
    assert isinstance(output, Video)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output, "_encode", full)
    with pytest.raises(StorageError, match="the disk is full"):
        output.write(result())
    output.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"), [("", "it is a folder"), ("none/out.mp4", "no folder .*none; make it")]
)
def test_a_video_that_cannot_be_written(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "x.mp4").mkdir()
    with pytest.raises(StorageError, match=message):
        open_output(f"{tmp_path}/{name or 'x.mp4'}", Copies())


def test_a_video_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end in \.mkv, \.mov, \.mp4"):
        open_output(f"file://{tmp_path}/out.webm", Copies())


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_drawing_copies_once_and_never_touches_the_frame(order: Order) -> None:
    given = result(order=order)
    before = given.frame.picture.planes[0].copy()
    copies = Copies()
    canvas = annotate(given, copies)
    np.testing.assert_array_equal(given.frame.picture.planes[0], before)
    assert not np.shares_memory(canvas, given.frame.picture.planes[0])
    assert copies.by_reason == {("display", "frame to draw on"): before.nbytes}
    expected = (200, 20, 20) if order == "BGR" else (20, 20, 200)
    np.testing.assert_array_equal(canvas[30, 60], expected)


@pytest.mark.parametrize(("height", "width"), [(720, 1280), (240, 320), (1280, 720), (8, 8)])
def test_the_drawing_fits_into_the_frame(height: int, width: int) -> None:
    given = result(0, height, width)
    long = replace(
        given, predictions=tuple(Prediction(n, "long label " * 20, 1.0) for n in range(3))
    )
    drawn = annotate(long, Copies()).astype(int)
    changed = np.argwhere(np.abs(drawn - (20, 20, 200)).max(2) > 0)
    line = max(min(height, width) // 18, 10)
    assert len(changed) or height == 8
    assert changed[:, 1].max(initial=0) < width - line // 2
    text = np.argwhere((drawn > 200).all(2))  # white: cut before it reaches the percentage
    assert text[:, 1].max(initial=0) < line // 2 + 15 * line


@pytest.mark.parametrize(
    ("version", "label", "expected"),
    [
        ("4.10.0", "Château", "Chateau"),
        ("4.10.0", "猫", "?"),
        ("5.0.0", "Château 猫", "Château 猫"),
    ],
)
def test_labels_are_drawn_as_far_as_opencv_can(
    monkeypatch: pytest.MonkeyPatch, version: str, label: str, expected: str
) -> None:
    drawn = []
    monkeypatch.setattr(cv2, "__version__", version)
    monkeypatch.setattr(cv2, "putText", lambda canvas, text, *_: drawn.append(text))
    given = result(0, 720, 1280)
    annotate(replace(given, predictions=(Prediction(0, label, 0.5),)), Copies())
    assert drawn == [expected] * 2 + ["50 %"] * 2 + ["29.9 fps, 8.1 ms"] * 2


def test_a_display_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                  NONE\n")
    with pytest.raises(SourceUnavailable, match=r"pip install opencv-python.*out\.mp4"):
        open_output("display://", Copies())
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                  QT5\n")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SourceUnavailable, match="neither DISPLAY nor WAYLAND_DISPLAY"):
        open_output("display://", Copies())


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """OpenCV with a window that is only pretended."""
    state = {"shown": 0, "key": -1, "visible": 1.0, "destroyed": 0}

    def count(key: str) -> Callable[..., None]:
        def call(*_: object) -> None:
            state[key] += 1

        return call

    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                  QT5\n")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "imshow", count("shown"))
    monkeypatch.setattr(cv2, "destroyAllWindows", count("destroyed"))
    monkeypatch.setattr(cv2, "waitKey", lambda _: int(state["key"]))
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: state["visible"])
    return state


@pytest.mark.parametrize("end", [{"key": ord("q")}, {"key": 27}, {"visible": 0.0}])
def test_a_display_ends_the_loop(window: dict[str, float], end: dict[str, float]) -> None:
    output: Output
    with closing(open_output("display://", Copies())) as output:
        assert output.write(result(0))
        window.update(end)
        assert not output.write(result(1))
    output.close()
    assert window["destroyed"] == 1
