import pytest

from edgekit.device.shown import shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtsp://admin:secret@camera/live?token=x", "rtsp://camera/live?..."),
        ("http://0.0.0.0:8080?token=abc", "http://0.0.0.0:8080?..."),
        ("synthetic://640x480@30?frames=9", "synthetic://640x480@30?frames=9"),
        ("v4l2:///dev/video0?size=1280x720", "v4l2:///dev/video0?size=1280x720"),
        ("photos/a@b.jpg", "photos/a@b.jpg"),
    ],
)
def test_secrets_are_not_shown_and_the_rest_is(text: str, expected: str) -> None:
    assert shown(text) == expected
