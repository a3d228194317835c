"""How old a frame is when it is answered, by a model that is slower than the camera.

    python -m scripts.bench.frame_age [--model-ms 41.7] [--fps 60] [--seconds 15]

The virtual camera gives 1280x720 NV12. The model sleeps: what is measured is how long frames wait.
The age is from the driver's timestamp to the answer. Ours (capture in a process, and in a thread),
beside the two usual ways: OpenCV read in turn with the model (the driver's buffers fill up and are
answered first in, first out), and OpenCV read by a thread into a queue without a bound.
"""

import argparse
import queue
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import cv2

from edgekit.device.capture.supply import Supply
from edgekit.device.stats import Stats
from edgekit.device.uri import open_camera
from edgekit.spec import Capture, LoopOptions
from scripts.bench._common import CAMERA, heading, under_virtual_camera


def ours(capture: Capture) -> Iterator[float]:
    """Capture times (s, the driver's clock) of the frames that our hand-over gives."""
    with closing(open_camera(f"{CAMERA}?format=nv12", LoopOptions(capture=capture))) as camera:
        supply = Supply(camera, Stats())
        supply.start()
        try:
            while (frame := supply.take()) is not None:
                yield frame.captured_ns / 1e9
                frame.release()
        finally:
            supply.stop()


def opencv() -> Any:
    """The camera as OpenCV opens it."""
    capture = cv2.VideoCapture("/dev/video0", cv2.CAP_V4L2)
    capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"NV12"))
    return capture


def first_in_first_out() -> Iterator[float]:
    """OpenCV, read in turn with the model."""
    capture = opencv()
    try:
        while True:
            capture.read()
            yield capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
    finally:
        capture.release()


def unbounded() -> Iterator[float]:
    """OpenCV, read by a thread into a queue."""
    capture, waiting, ended = opencv(), queue.Queue[float](), threading.Event()

    def read() -> None:
        while not ended.is_set():
            capture.read()
            waiting.put(capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        while True:
            yield waiting.get()
    finally:
        ended.set()
        thread.join()
        capture.release()


def ages(frames: Iterator[float], model_s: float, seconds: float) -> list[float]:
    """Ages of the answers, ms, from one second on."""
    found, begun = [], time.monotonic()
    for captured in frames:
        time.sleep(model_s)
        now = time.monotonic()
        if now - begun > 1:
            found.append((now - captured) * 1e3)
        if now - begun > seconds:
            break
    frames.close()  # type: ignore[attr-defined]
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model-ms", type=float, default=41.7)
    parser.add_argument("--fps", type=float, default=60)
    parser.add_argument("--seconds", type=float, default=15)
    given = parser.parse_args()
    under_virtual_camera(modes=f"NV12:1280x720@{given.fps:g}")
    print(heading(f"model {given.model_ms} ms, camera {given.fps:g} fps, {given.seconds:g} s"))
    print("\n| way | age p50, ms | p95 | last |\n|---|---|---|---|")
    ways = {
        "edgekit, capture in a process": ours("process"),
        "edgekit, capture in a thread": ours("thread"),
        "OpenCV, first in first out": first_in_first_out(),
        "OpenCV, unbounded queue": unbounded(),
    }
    for name, frames in ways.items():
        found = ages(frames, given.model_ms / 1e3, given.seconds)
        p95 = statistics.quantiles(found, n=20)[18]
        print(f"| {name} | {statistics.median(found):.1f} | {p95:.1f} | {found[-1]:.1f} |")
    frame_ms = 1e3 / given.fps
    print(f"\nOne inference and one frame time are {given.model_ms + frame_ms:.1f} ms.")


if __name__ == "__main__":
    main()
