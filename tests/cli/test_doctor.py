import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from edgekit.device import doctor

Edgekit = Callable[..., Any]


def test_doctor_says_what_can_be_built_and_run(edgekit: Edgekit) -> None:
    end = edgekit("doctor")
    assert end.code in (0, 3), end.err
    for said in ("Python", "cameras", "csi://", "shm://", "raspberry-pi"):
        assert said in end.out
    assert any(line.split()[:2] == ["backend", "half"] for line in end.out.splitlines())


def test_doctor_where_nothing_can_run_ends_with_3(
    edgekit: Edgekit, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = doctor.diagnose()
    halves = tuple(
        replace(it, usable=False, install="pip install 'edgekit[onnx,camera]'")
        for it in found.halves
    )
    camera = doctor.Camera("/dev/video0", "HD Webcam", readable=False, lasting="/dev/v4l/by-id/hd")
    monkeypatch.setattr(
        doctor, "diagnose", lambda: replace(found, halves=halves, cameras=(camera,))
    )
    end = edgekit("doctor")
    assert end.code == 3
    assert "  pip install 'edgekit[onnx,camera]'\n" in end.out
    assert "/dev/video0 HD Webcam (/dev/v4l/by-id/hd) (no permission to open it)" in end.out
    end = edgekit("doctor", "--json")
    assert end.code == 3
    assert json.loads(end.out)["cameras"][0]["name"] == "HD Webcam"
    sources = {source["scheme"]: source for source in json.loads(end.out)["sources"]}
    assert sources["synthetic"]["missing"] == ""
