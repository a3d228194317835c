"""Frames a second of one to eight streams together.

    python -m scripts.bench.streams BUNDLE CLIP [--frames 400] [--rounds 5]

Frames of the clip are in memory beforehand, so inference is all there is to do; each stream is a
camera of its own, and every frame is used. The counts take turns; medians over the rounds.
"""

import argparse
import statistics
import time
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.device.many import Many
from edgekit.device.picture import Picture
from scripts.bench._common import Memory, decode, heading, read

STREAMS = (1, 2, 3, 4, 6, 8)


def rate(bundle: Bundle, pictures: list[Picture], streams: int, frames: int) -> float:
    """Answers a second of all streams together."""
    cameras = [Memory(pictures, -(-frames // streams // len(pictures))) for _ in range(streams)]
    with Many([bundle], cameras) as loop:
        results = iter(loop)
        next(results)
        begun = time.perf_counter()
        count = sum(1 for _ in results)
        return count / (time.perf_counter() - begun)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("clip")
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    bundle = read(given.bundle)
    pictures = decode(given.clip, 10)
    print(heading(f"{bundle.manifest.name} {bundle.manifest.precision}", "1 thread a model"))
    rates: dict[int, list[float]] = {streams: [] for streams in STREAMS}
    for _ in range(given.rounds):
        for streams, found in rates.items():
            found.append(rate(bundle, pictures, streams, given.frames))
    best = max(statistics.median(found) for found in rates.values())
    print("\n| streams | frames a second, together | of the best |\n|---|---|---|")
    for streams, found in rates.items():
        middle = statistics.median(found)
        print(f"| {streams} | {middle:.0f} | {middle / best:.2f} |")


if __name__ == "__main__":
    main()
