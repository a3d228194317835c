"""What the loop costs beside the bare session, and how well it overlaps decoding with inference.

    python -m scripts.bench.loop BUNDLE CLIP [--frames 600] [--rounds 7]

1. On the virtual camera (`scripts/virtual_camera`, 1280x720 NV12 at 60 a second): after each answer
   the session is run once more on the same input. The ratio is (from having the frame to its
   answer) / (that run), the median over the frames; capture in a thread and in a process.
2. On the clip: a run of the loop, per frame, beside its slower stage alone: decoding, or preparing
   and inferring frames that are in memory. They take turns; medians over the rounds.
"""

import argparse
import statistics
import time
from contextlib import closing
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.device.loop import Loop
from edgekit.device.session import open_session
from edgekit.device.uri import open_camera
from edgekit.spec import Capture, LoopOptions, Session
from scripts.bench._common import CAMERA, Memory, decode, heading, read, under_virtual_camera


def on_camera(bundle: Bundle, session: Session, capture: Capture, frames: int) -> list[float]:
    """Per frame: busy ms of the loop, ms of the session alone."""
    ours, bare = [], []
    with (
        closing(open_camera(f"{CAMERA}?format=nv12", LoopOptions(capture=capture))) as camera,
        Loop(bundle, session, camera, limit=frames) as loop,
    ):
        results, waits = iter(loop), loop.stats.stages["wait"]
        waited = 0.0
        while True:
            begun = time.perf_counter()
            if next(results, None) is None:
                break
            answered = time.perf_counter()
            session.run(lambda inputs: None)
            bare.append(time.perf_counter() - answered)
            total = waits.mean_ms * waits.count / 1e3
            ours.append(answered - begun - (total - waited))
            waited = total
        summary = loop.summary()
    pairs = [one / other for one, other in zip(ours[10:], bare[10:], strict=True)]
    copied = summary.bytes_per_frame["frame"]
    return [
        statistics.median(ours) * 1e3, statistics.median(bare) * 1e3, statistics.median(pairs),
        summary.age_ms.p50, copied,
    ]  # fmt: skip


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
    under_virtual_camera(modes="NV12:1280x720@60")
    bundle = read(given.bundle)
    print(heading(f"{bundle.manifest.name} {bundle.manifest.precision}", "1 thread"))
    print("\n| capture | loop, ms | session alone, ms | ratio | frame age p50, ms | bytes |")
    print("|---|---|---|---|---|---|")
    with closing(open_session(bundle)) as session:
        captures: tuple[Capture, ...] = ("thread", "process")
        for capture in captures:
            ours, bare, ratio, age, copied = on_camera(bundle, session, capture, given.frames)
            print(
                f"| {capture} | {ours:.3f} | {bare:.3f} | {ratio:.3f} | {age:.2f} | {copied:.0f} |"
            )
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
