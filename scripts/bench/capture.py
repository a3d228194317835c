"""V4L2 capture and preprocessing without a model: the driver's frame to the model's 224x224 input.

    python -m scripts.bench.capture [--rounds 5] [--frames 300] [--width 1280] [--height 720]

The virtual camera makes a frame whenever one is waited for, and leaves the pixels in its buffers as
they are, so nothing but the client is measured. Each contestant runs in a process of its own, on
one core, in turns; the time is that of all its threads, the median over rounds of the median over
batches of 20 frames. Ours writes uint8 RGB, which our bundles take: cropped, resized and normalised
inside the model. The others:

- `OpenCV tutorial`: `VideoCapture.read`, cvtColor, resize, / 255, normalise, transpose: what a
  float32 model takes.
- `OpenCV tutorial into int8`: the same without the transpose, then quantised: what an int8 model
  of TFLite takes.
- `OpenCV, buffers reused`: `read` into the same memory, resize into the input, cvtColor in place.
- `picamera2 example`: `examples/tensorflow/real_time.py`'s way: a copy of the whole buffer, its
  grey plane as RGB, resized. That example also makes a new interpreter for each frame, which is
  left out here, as is libcamera: the frame comes by our own capture.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np

from scripts.bench._common import CAMERA, heading, under_virtual_camera

SIDE = 224
BATCH = 20
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def ours(of: str, width: int, height: int) -> Iterator[None]:
    """Our camera and our contract."""
    from edgekit.device.image import Preparer
    from edgekit.device.uri import open_raw
    from edgekit.spec import ImageSpec

    out = np.empty((SIDE, SIDE, 3), np.uint8)
    prepare = Preparer(ImageSpec(SIDE, SIDE))
    text = f"{CAMERA}?format={of}&width={width}&height={height}"
    with closing(open_raw(text)) as camera:
        while (frame := camera.read()) is not None:
            with frame:
                prepare(frame.picture, out)
            yield


def alone(of: str, width: int, height: int) -> Iterator[None]:
    """Our camera by itself."""
    from edgekit.device.uri import open_raw

    with closing(open_raw(f"{CAMERA}?format={of}&width={width}&height={height}")) as camera:
        while (frame := camera.read()) is not None:
            frame.release()
            yield


def _opencv(of: str, width: int, height: int) -> Any:
    import cv2

    capture = cv2.VideoCapture("/dev/video0", cv2.CAP_V4L2)
    capture.set(cv2.CAP_PROP_FOURCC, float(cv2.VideoWriter.fourcc(*of.upper())))
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, float(width))
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, float(height))
    return capture


def tutorial(of: str, width: int, height: int) -> Iterator[None]:
    """What most first programs do."""
    import cv2

    capture = _opencv(of, width, height)
    while True:
        there, frame = capture.read()
        assert there
        assert frame.shape == (height, width, 3)
        pixels = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), (SIDE, SIDE))
        scaled = (pixels.astype(np.float32) / 255.0 - MEAN) / DEVIATION
        np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])
        yield


def tutorial_int8(of: str, width: int, height: int) -> Iterator[None]:
    """The same for an int8 model: quantised as its input says."""
    import cv2

    capture = _opencv(of, width, height)
    scale, zero_point = np.float32(0.0187), np.float32(-14)
    while True:
        there, frame = capture.read()
        assert there
        pixels = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), (SIDE, SIDE))
        scaled = (pixels.astype(np.float32) / 255.0 - MEAN) / DEVIATION
        np.clip(np.round(scaled / scale) + zero_point, -128, 127).astype(np.int8)[None]
        yield


def reused(of: str, width: int, height: int) -> Iterator[None]:
    """OpenCV as lean as its interface lets it be."""
    import cv2

    capture = _opencv(of, width, height)
    frame = np.empty((height, width, 3), np.uint8)
    out = np.empty((SIDE, SIDE, 3), np.uint8)
    while True:
        there, given = capture.read(frame)
        assert there
        assert np.shares_memory(given, frame)
        cv2.resize(frame, (SIDE, SIDE), dst=out)
        cv2.cvtColor(out, cv2.COLOR_BGR2RGB, dst=out)
        yield


def picamera2(of: str, width: int, height: int) -> Iterator[None]:
    """That example's handling of a frame."""
    import cv2

    from edgekit.device.uri import open_raw

    text = f"{CAMERA}?format={of}&width={width}&height={height}"
    with closing(open_raw(text)) as camera:
        while (frame := camera.read()) is not None:
            with frame:
                buffer = np.concatenate([np.ravel(plane) for plane in frame.picture.planes])
            grey = buffer[: width * height].reshape(height, width)
            small = cv2.resize(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), (SIDE, SIDE))
            np.expand_dims(small, 0)
            yield


CONTESTANTS: dict[str, tuple[Callable[[str, int, int], Iterator[None]], str]] = {
    "ours, NV12": (ours, "nv12"),
    "ours, YUYV": (ours, "yuyv"),
    "ours without preparing, NV12": (alone, "nv12"),
    "OpenCV tutorial, NV12": (tutorial, "nv12"),
    "OpenCV tutorial, YUYV": (tutorial, "yuyv"),
    "OpenCV tutorial into int8, NV12": (tutorial_int8, "nv12"),
    "OpenCV, buffers reused, NV12": (reused, "nv12"),
    "OpenCV, buffers reused, YUYV": (reused, "yuyv"),
    "picamera2 example, NV12": (picamera2, "nv12"),
}


def measure(name: str, frames: int, width: int, height: int) -> dict[str, float]:
    """One contestant in this process."""
    import cv2

    cv2.setNumThreads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    loop, of = CONTESTANTS[name]
    steps = loop(of, width, height)
    for _ in range(2 * BATCH):
        next(steps)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    cpu, wall = [], []
    for _ in range(max(frames // BATCH, 1)):
        begun = time.process_time_ns(), time.perf_counter_ns()
        for _ in range(BATCH):
            next(steps)
        cpu.append((time.process_time_ns() - begun[0]) / BATCH / 1e3)
        wall.append((time.perf_counter_ns() - begun[1]) / BATCH / 1e3)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    tracemalloc.start()
    next(steps)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(BATCH):
        next(steps)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return {
        "cpu": statistics.median(cpu),
        "wall": statistics.median(wall),
        "faults": faults / (len(cpu) * BATCH),
        "bytes": peak,
    }


def main() -> None:
    """Run all of them in turns and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--only", help="measure this one here and print JSON")
    given = parser.parse_args()
    if given.only:
        print(json.dumps(measure(given.only, given.frames, given.width, given.height)))
        return
    size = f"{given.width}x{given.height}"
    under_virtual_camera(free="1", still="1", modes=f"NV12:{size}@30 YUYV:{size}@30")
    print(heading(size, f"{given.rounds} rounds of {given.frames} frames"))
    # Threads that nobody gives work spin for a while, and their time would count.
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    for _ in range(given.rounds):
        for name, results in runs.items():
            command = [sys.executable, "-m", "scripts.bench.capture", *sys.argv[1:], "--only", name]
            done = subprocess.run(command, env=alone, capture_output=True, text=True, check=True)
            results.append(json.loads(done.stdout))
    middle = {
        name: {key: statistics.median(run[key] for run in results) for key in results[0]}
        for name, results in runs.items()
    }
    print(
        "\n| | CPU, us a frame | wall, us | times ours | page faults a frame | Python's peak, B |"
    )
    print("|---|---|---|---|---|---|")
    for name, run in middle.items():
        same = middle["ours, YUYV" if name.endswith("YUYV") else "ours, NV12"]
        print(
            f"| {name} | {run['cpu']:.0f} | {run['wall']:.0f} | {run['cpu'] / same['cpu']:.2g} "
            f"| {run['faults']:.2f} | {run['bytes']:,.0f} |"
        )


if __name__ == "__main__":
    main()
