from pathlib import Path

import pytest

from edgekit.device.copies import UNCOUNTED
from edgekit.device.uri import Uri, open_camera, open_output, parse_output, parse_source
from edgekit.errors import ImageError, InputError, SpecError, StorageError, UnknownName


def test_plain_paths_are_told_apart_by_what_is_there(tmp_path: Path) -> None:
    for name in ("a.JPG", "b.mp4", "odd?name=1.png"):
        (tmp_path / name).write_bytes(b"")
    kinds = {"": "dir", "a.JPG": "image", "b.mp4": "file", "odd?name=1.png": "image"}
    for name, scheme in kinds.items():
        text = str(tmp_path / name)
        assert parse_source(text) == Uri(text, scheme, text, {})
    with_option = parse_source(f"{tmp_path}/b.mp4?pace=realtime")
    assert with_option.place == f"{tmp_path}/b.mp4"
    assert with_option.options == {"pace": "realtime"}


def test_a_device_is_a_camera() -> None:
    assert parse_source("/dev/null").scheme == "v4l2"


@pytest.mark.parametrize(
    ("text", "scheme", "place", "options"),
    [
        ("v4l2:///dev/video0", "v4l2", "/dev/video0", {}),
        ("synthetic://640x480@30", "synthetic", "640x480@30", {}),
        ("csi://0?width=640&height=480", "csi", "0", {"width": "640", "height": "480"}),
        ("file://a%20b.mp4?pace=fast", "file", "a b.mp4", {"pace": "fast"}),
        ("json://-", "json", "-", {}),
    ],
)
def test_schemes(text: str, scheme: str, place: str, options: dict[str, str]) -> None:
    assert parse_source(text) == Uri(text, scheme, place, options)
    assert parse_output(text) == Uri(text, scheme, place, options)


def test_an_output_without_a_scheme_is_a_video() -> None:
    assert parse_output("a/out.MP4").scheme == "file"
    with pytest.raises(StorageError, match=r"\.mkv, \.mov, \.mp4"):
        parse_output("out.gif")


def test_nothing_there_lists_what_can_be_given() -> None:
    with pytest.raises(ImageError, match=r"no file or folder 'nothing\.mp4'.*v4l2://"):
        parse_source("nothing.mp4")


def test_unknown_schemes_suggest_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'v4l2'"):
        open_camera("v412:///dev/video0")
    with pytest.raises(UnknownName, match="did you mean 'display'"):
        open_output("dispay://", UNCOUNTED)


@pytest.mark.parametrize("text", ["", "  "])
def test_nothing_given(text: str) -> None:
    with pytest.raises(InputError, match="empty"):
        parse_source(text)
    with pytest.raises(InputError, match="empty"):
        parse_output(text)


def test_options() -> None:
    uri = parse_source("synthetic://?frames=ten&pace=slow")
    with pytest.raises(UnknownName, match="option of synthetic:// 'frames'"):
        uri.only("pace")
    uri.only("pace", "frames")
    with pytest.raises(SpecError, match=r"frames of .* from 0 to 9, got 'ten'"):
        uri.number("frames", 0, 0, 9)
    with pytest.raises(UnknownName, match="'slow'.*fast, realtime"):
        uri.choice("pace", ("fast", "realtime"), "fast")
    assert uri.number("other", 3, 0, 9) == 3
    with pytest.raises(SpecError, match="given twice"):
        parse_source("synthetic://?frames=1&frames=2")


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "1e9"])
def test_numbers_out_of_range(text: str) -> None:
    with pytest.raises(SpecError, match="from 0 to 9"):
        parse_source(f"synthetic://?frames={text}").number("frames", 0, 0, 9)


def test_no_message_shows_a_password() -> None:
    with pytest.raises(SpecError) as caught:
        parse_source("rtsp://user:secret@door/x?a=1&a=2")
    assert "secret" not in str(caught.value)
    assert "rtsp://door/x" in str(caught.value)
