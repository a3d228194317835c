"""Ribbon-cable cameras: the pipelines that are asked for. They cannot run without their boards."""

from pathlib import Path

import pytest

from edgekit.device.cameras import csi
from edgekit.device.uri import parse_source
from edgekit.errors import SourceUnavailable


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What would be started."""
    found: list[object] = []
    monkeypatch.setattr(csi, "Pipeline", lambda *arguments: found.extend(arguments))
    return found


def test_on_a_jetson(asked: list[object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(csi, "_JETSON", tmp_path)
    csi.open_camera(parse_source("csi://1?width=640&height=480&fps=60&deadline=2"))
    assert asked == [
        "nvarguscamerasrc sensor-id=1 ! "
        "video/x-raw(memory:NVMM),width=640,height=480,framerate=60/1 ! "
        "nvvidconv ! video/x-raw,format=NV12",
        "csi://1",
        2.0,
        "nvvidconv: NVMM to system memory",
    ]


def test_on_a_raspberry_pi(
    asked: list[object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(csi, "_JETSON", tmp_path / "none")
    csi.open_camera(parse_source("csi://"))
    assert asked == [
        "libcamerasrc ! video/x-raw,format=NV12,width=1280,height=720,framerate=30/1",
        "csi://0",
        5.0,
        "",
    ]
    with pytest.raises(SourceUnavailable, match="gst://libcamerasrc camera-name=NAME"):
        csi.open_camera(parse_source("csi://1"))
