"""What the loop costs beside the bare session, and how well it overlaps decoding with inference.

    python -m scripts.bench.loop BUNDLE CLIP [--frames 600] [--rounds 7]

1. On the virtual camera (`scripts/virtual_camera`, 1280x720 NV12), at 60 frames a second and at
   400, more than the model can take: of every second frame, the time from having it to its answer;
   of the others, of the session alone on the input that it still has. So both wait alike, and find
   the caches alike. Medians; capture in a thread, in a process, and in turn with the model (then
   the virtual camera draws in this thread, and the frame lies in this core's cache).
2. On the clip: a run of the loop, per frame, beside its slower stage alone: decoding, or preparing
   and inferring frames that are in memory. They take turns; medians over the rounds.
"""

import argparse
import itertools
import statistics
import time
from contextlib import ExitStack, closing
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.device.answer import Answerer
from edgekit.device.capture.supply import Supply
from edgekit.device.loop import Loop
from edgekit.device.session import open_session
from edgekit.device.stats import Stats
from edgekit.device.uri import open_camera, open_raw
from edgekit.spec import LoopOptions, Session
from scripts.bench._common import CAMERA, Memory, decode, heading, read, under_virtual_camera

IN_TURN = "in turn"


def on_camera(bundle: Bundle, session: Session, capture: str, fps: int, frames: int) -> list[float]:
    """Ms of the loop, ms of the session alone, their ratio, age p50, bytes copied a frame."""
    stats, ours, bare = Stats(), list[float](), list[float]()
    answerer = Answerer(bundle, session, stats)
    answerer.warm()
    source = f"{CAMERA}?format=nv12&fps={fps}"
    with ExitStack() as stack:
        if capture == IN_TURN:
            take = stack.enter_context(closing(open_raw(source))).read
        else:
            options = LoopOptions(capture="process" if capture == "process" else "thread")
            supply = Supply(stack.enter_context(closing(open_camera(source, options))), stats)
            supply.start()
            stack.callback(supply.stop)
            take = supply.take
        for number in range(frames):
            frame = take()
            assert frame is not None
            begun = time.perf_counter()
            with frame:
                if number % 2:
                    answerer.answer(frame)
                else:
                    session.run(lambda inputs: None)  # what is in the input is still there
            (ours if number % 2 else bare).append(time.perf_counter() - begun)
    summary = stats.summary()
    loop_ms, bare_ms = (statistics.median(times[10:]) * 1e3 for times in (ours, bare))
    copied = summary.bytes_per_frame["frame"]
    return [loop_ms, bare_ms, loop_ms / bare_ms, summary.age_ms.p50, copied]


def pipelined(bundle: Bundle, session: Session, clip: str, frames: int) -> tuple[float, ...]:
    """Ms a frame: the loop on the clip, decoding alone, the loop on frames in memory."""

    def loop_ms(camera: Memory | None) -> float:
        with (
            closing(camera or open_camera(clip)) as source,
            Loop(bundle, session, source, limit=frames) as loop,
        ):
            begun = time.perf_counter()
            count = sum(1 for _ in loop)
            return (time.perf_counter() - begun) * 1e3 / count

    with closing(open_camera(clip)) as camera:
        begun, count = time.perf_counter(), 0
        while count < frames and (frame := camera.read()) is not None:
            frame.release()
            count += 1
        decoding = (time.perf_counter() - begun) * 1e3 / count
    pictures = decode(clip, 30)
    return loop_ms(None), decoding, loop_ms(Memory(pictures, -(-count // len(pictures))))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("clip")
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    under_virtual_camera(modes="NV12:1280x720@60,400")
    bundle = read(given.bundle)
    print(heading(f"{bundle.manifest.name} {bundle.manifest.precision}", "1 thread"))
    print("\n| camera, fps | capture | loop, ms | session alone, ms | ratio | age p50 | bytes |")
    print("|---|---|---|---|---|---|---|")
    with closing(open_session(bundle)) as session:
        for fps, capture in itertools.product((60, 400), ("thread", "process", IN_TURN)):
            found = on_camera(bundle, session, capture, fps, given.frames)
            numbers = " | ".join(f"{number:.3f}" for number in found)
            print(f"| {fps} | {capture} | {numbers} |")
        rounds = [pipelined(bundle, session, given.clip, given.frames) for _ in range(given.rounds)]
    whole, decoding, inferring = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratios = [one[0] / max(one[1:]) for one in rounds]
    print("\n| clip | ms a frame |\n|---|---|")
    print(
        f"| decoding alone | {decoding:.3f} |\n| preparing and inferring alone | {inferring:.3f} |"
    )
    print(f"| the loop | {whole:.3f} |\n")
    print(f"The loop takes {statistics.median(ratios):.3f} times its slower stage.")


if __name__ == "__main__":
    main()
