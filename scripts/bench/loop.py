"""What the loop costs beside the bare session: (frame time - decode) / inference time.

    python scripts/bench/loop.py BUNDLE CLIP [--threads 1]

The clip's frames are decoded beforehand and lent from memory, so that a frame's time holds no
decoding of video. Bare: the session alone, its input prepared beforehand and copied in. Loop:
capture thread, hand-over, crop and resize into the input, inference, answers, statistics. The two
take turns on the same frames. The clip itself is run last, decoded as it goes.
"""

import argparse
import dataclasses
import datetime
import platform
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np

from edgekit import bundle as bundles
from edgekit.bundle import Bundle
from edgekit.device.copies import Copies
from edgekit.device.frame import Frame, Kind, nothing
from edgekit.device.image import full_bgr, prepare
from edgekit.device.loop import Loop
from edgekit.device.picture import rgb
from edgekit.device.session import open_session
from edgekit.device.uri import open_camera
from edgekit.spec import Session


class Memory:
    """Decoded frames as a camera: each is lent once, and costs nothing."""

    kind: Kind = "clip"
    deadline_s = float("inf")

    def __init__(self, frames: list[np.ndarray]) -> None:
        self.copies = Copies()
        self._frames = frames
        self._next = 0

    def read(self) -> Frame | None:
        if self._next == len(self._frames):
            return None
        sequence, self._next = self._next, self._next + 1
        pixels = self._frames[sequence]
        return Frame(rgb(pixels), sequence, time.monotonic_ns(), float(sequence), nothing)

    def close(self) -> None:
        """Nothing to free."""


def decode(clip: str, limit: int) -> list[np.ndarray]:
    """The first frames of the clip: copies, (H, W, 3) uint8 RGB."""
    frames: list[np.ndarray] = []
    with closing(open_camera(clip)) as camera:
        while len(frames) < limit and (frame := camera.read()) is not None:
            with frame:
                frames.append(full_bgr(frame.picture)[..., ::-1].copy())
    return frames


def bare_ms(session: Session, inputs: list[np.ndarray]) -> float:
    """Milliseconds a frame of the session alone."""
    name = session.inputs[0].name
    start = time.perf_counter()
    for prepared in inputs:

        def fill(memory: Mapping[str, np.ndarray], prepared: np.ndarray = prepared) -> None:
            memory[name][0] = prepared

        session.run(fill)
    return (time.perf_counter() - start) * 1e3 / len(inputs)


def loop_ms(bundle: Bundle, session: Session, frames: list[np.ndarray]) -> float:
    """Milliseconds a frame of the loop, from its start to its last answer."""
    with Loop(bundle, session, Memory(frames)) as loop:
        start = time.perf_counter()
        answered = sum(1 for _ in loop)
        elapsed = time.perf_counter() - start
    assert answered == len(frames)
    return elapsed * 1e3 / answered


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("clip")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    opened = bundles.read(given.bundle)
    options = dataclasses.replace(opened.manifest.session, threads=given.threads)
    opened = dataclasses.replace(
        opened, manifest=dataclasses.replace(opened.manifest, session=options)
    )
    frames = decode(given.clip, given.frames)
    spec = opened.manifest.image
    inputs = [np.empty((spec.height, spec.width, 3), np.uint8) for _ in frames]
    for pixels, out in zip(frames, inputs, strict=True):
        prepare(pixels, "RGB", spec, out)
    with closing(open_session(opened)) as session:
        bare_ms(session, inputs)
        loop_ms(opened, session, frames)
        pairs = [
            (bare_ms(session, inputs), loop_ms(opened, session, frames))
            for _ in range(given.rounds)
        ]
        with closing(open_camera(given.clip)) as camera, Loop(opened, session, camera) as loop:
            for _ in loop:
                pass
            summary = loop.summary()
    bare, whole = (float(np.median([pair[i] for pair in pairs])) for i in (0, 1))
    rows, columns = frames[0].shape[:2]
    print(f"{datetime.date.today()}, {platform.machine()}, {given.threads} thread(s), ", end="")
    print(f"{len(frames)} frames of {columns}x{rows}, {given.rounds} rounds in turn\n")
    print("| | ms a frame | ratio |\n|---|---|---|")
    print(f"| bare session | {bare:.3f} | 1.00 |")
    print(f"| loop, frames in memory | {whole:.3f} | {whole / bare:.2f} |\n")
    print(f"With the clip decoded as it goes: {summary.line}; ", end="")
    print(f"decoding takes {summary.stages_ms['capture'].mean:.2f} ms a frame in its own thread")


if __name__ == "__main__":
    main()
