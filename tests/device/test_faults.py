"""A camera that fails while `edgekit run` looks through it: what survives, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.bundle import Bundle
from tests.virtual_camera import VirtualCamera

RUN = [sys.executable, "-m", "edgekit.cli.main", "run"]
CAMERA = "v4l2:///dev/video0?width=320&height=240&fps=60&deadline=0.6"


class Running:
    """`edgekit run` on the virtual camera, whose lines are read as they come."""

    def __init__(self, bundle: Bundle, camera: VirtualCamera, source: str, *more: str) -> None:
        self.process = subprocess.Popen(
            [*RUN, str(bundle.path), source, "--json", "--stats", *more],
            env=camera.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert self.process.stdout is not None
        self._lines = self.process.stdout

    def frames(self, count: int) -> list[int]:
        """The sequence numbers of the next answers."""
        found = []
        for _ in range(count):
            line = self._lines.readline()
            assert line, self.process.communicate()[1]
            found.append(int(json.loads(line)["frame"]))
        return found

    def end(self, number: int = signal.SIGTERM) -> tuple[dict[str, Any], str, float]:
        """Tell it to end; gives its summary, what it said, and how long that took, s."""
        self.process.send_signal(number)
        begun = time.monotonic()
        out, err = self.process.communicate(timeout=30)
        took = time.monotonic() - begun
        assert self.process.returncode == 128 + number, err
        assert "Traceback" not in err
        (summary,) = json.loads(out.splitlines()[-1])["summary"]
        return summary, err, took


@pytest.fixture
def start(bundle: Bundle, virtual_camera: VirtualCamera) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def begin(source: str = CAMERA, *more: str) -> Running:
        running.append(Running(bundle, virtual_camera, source, *more))
        return running[-1]

    yield begin
    for one in running:
        one.process.kill()
        one.process.communicate()


CAPTURE = pytest.mark.parametrize("capture", ["thread", "process"])


@CAPTURE
def test_frames_are_answered_without_a_copy(start: Callable[..., Running], capture: str) -> None:
    running = start(CAMERA, "--capture", capture)
    seen = running.frames(30)
    assert seen == sorted(set(seen))
    summary, _, _ = running.end()
    assert summary["bytes_per_frame"]["frame"] == 0
    assert summary["dropped"] == summary["produced"] - summary["frames"]
    assert summary["restarts"] == 0


@CAPTURE
def test_a_stall(
    start: Callable[..., Running], virtual_camera: VirtualCamera, capture: str
) -> None:
    running = start(CAMERA, "--capture", capture)
    before = running.frames(10)[-1]
    virtual_camera.set(stall="0-")
    time.sleep(1.0)
    virtual_camera.set()
    after = running.frames(200)
    assert min(after) > before
    summary, said, _ = running.end()
    assert summary["restarts"] >= 1
    assert "starting it again" in said


@CAPTURE
def test_unplugged_and_plugged_in_under_another_number(
    start: Callable[..., Running], virtual_camera: VirtualCamera, capture: str
) -> None:
    source = CAMERA.replace("/dev/video0", "by-id/usb-Virtual_Camera_0-video-index0")
    running = start(source, "--capture", capture)
    running.frames(10)
    virtual_camera.set(present=0)
    time.sleep(0.7)
    virtual_camera.set(number=3)
    running.frames(100)
    summary, said, _ = running.end()
    assert summary["restarts"] >= 1
    assert "went away" in said


def test_a_capture_process_that_is_stopped(start: Callable[..., Running]) -> None:
    running = start(CAMERA, "--capture", "process")
    running.frames(10)
    (child,) = _children(running.process.pid)
    os.kill(child, signal.SIGSTOP)
    running.frames(60)
    assert not Path(f"/proc/{child}").exists()
    summary, said, _ = running.end()
    assert summary["restarts"] == 1
    assert "hangs in the camera's driver, or was stopped" in said


@CAPTURE
def test_a_camera_that_never_recovers_ends_it_with_69(
    start: Callable[..., Running], virtual_camera: VirtualCamera, capture: str
) -> None:
    virtual_camera.set(eio="3-")  # each time it is opened it fails after three frames
    running = start(CAMERA, "--capture", capture)
    _, said = running.process.communicate(timeout=60)
    assert running.process.returncode == 69
    assert said.count("starting it again") == 5
    assert "error: " in said
    assert "5 times within a minute" in said


@CAPTURE
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_at_once_and_lets_the_camera_go(
    start: Callable[..., Running], virtual_camera: VirtualCamera, capture: str, number: int
) -> None:
    running = start(CAMERA, "--capture", capture)
    running.frames(5)
    children = _children(running.process.pid)
    assert len(children) == (capture == "process")
    _, _, took = running.end(number)
    assert took < 10  # two seconds where the machine is not loaded: see docs/camera.md
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    start(CAMERA).frames(5)  # the camera is free


@CAPTURE
def test_it_ends_while_the_camera_stalls(
    start: Callable[..., Running], virtual_camera: VirtualCamera, capture: str
) -> None:
    running = start(CAMERA.replace("0.6", "600"), "--capture", capture)
    running.frames(5)
    virtual_camera.set(stall="0-")
    time.sleep(0.3)
    _, _, took = running.end()
    assert took < 10


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]
