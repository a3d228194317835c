"""A camera's picture to the model's input, as the camera's picture grows.

    python -m scripts.bench.preprocessing [--side 224] [--rounds 40]

Ours: `Preparer`, every format. Beside it what tutorials do: convert the whole frame to RGB with
OpenCV, cut the same box out, and resize that into the same memory; with every buffer reused, so
neither allocates (but for `imdecode`, which cannot). The two take turns on one core, each with the
same picture several times in a row: the first time it comes from memory, as when a camera has just
written it, then from the cache as far as the other one left it. Then ours alone, with one picture.
Prints markdown: medians, the ratios, and how much ours alone has grown since 320x240.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np

from edgekit.device.image import Preparer
from edgekit.device.picture import Picture, PixelFormat, layout
from edgekit.spec import ImageSpec
from scripts.bench._common import heading

SIZES = ((320, 240), (640, 480), (1280, 720), (1920, 1080), (3840, 2160))
FORMATS: tuple[PixelFormat, ...] = ("NV12", "I420", "YUYV", "BGR", "MJPEG")
WARM_UP, IN_A_ROW, FRAMES = 2, 6, 4

Run = Callable[[Picture], None]


def scene(width: int, height: int, seed: int) -> np.ndarray:
    """(height, width, 3) uint8: smooth, with edges and some noise, as a camera's picture has."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (12, 16, 3), np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = generator.integers(0, 12, (height, width, 3), np.uint8)
    return np.ascontiguousarray(cv2.add(smooth, noise))


def picture(of: PixelFormat, width: int, height: int, seed: int) -> Picture:
    """A frame in that format; of the raw ones noise, which costs the same."""
    if of == "MJPEG":
        options = [cv2.IMWRITE_JPEG_QUALITY, 85, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x211111]
        data = cv2.imencode(".jpg", scene(width, height, seed), options)[1].ravel()
        return Picture("MJPEG", width, height, (data,), full_range=True)
    made = layout(of, width, height)
    memory = np.random.default_rng(seed).integers(0, 256, made.nbytes, np.uint8)
    return made.over(memory)


def converted(first: Picture, spec: ImageSpec, out: np.ndarray) -> Run:
    """The whole frame to RGB, then the box of `spec` resized into `out`; buffers made once."""
    whole = np.empty((first.height, first.width, 3), np.uint8)
    # The box of the contract, so that both look at the same pixels.
    place = Preparer(spec)(first, out.copy())
    size, rgb = (spec.width, spec.height), _to_rgb(first, whole)

    def run(picture: Picture) -> None:
        box = place.source.of(rgb(picture))
        cv2.resize(box, size, dst=out, interpolation=cv2.INTER_LINEAR)

    return run


def _to_rgb(first: Picture, whole: np.ndarray) -> Callable[[Picture], Any]:
    of, height, width = first.format, first.height, first.width
    convert: Any = cv2.cvtColor
    if of == "NV12":
        planes: Any = cv2.cvtColorTwoPlane
        return lambda p: planes(*p.planes, cv2.COLOR_YUV2RGB_NV12, dst=whole)
    if of == "I420":
        # The planes lie one after the other: all of them are one image of 3/2 the height.
        def flat(p: Picture) -> np.ndarray:
            y = p.planes[0]
            return np.lib.stride_tricks.as_strided(y, (height * 3 // 2, width), y.strides)

        return lambda p: convert(flat(p), cv2.COLOR_YUV2RGB_I420, dst=whole)
    if of == "YUYV":
        code = cv2.COLOR_YUV2RGB_YUY2
        return lambda p: convert(p.planes[0].reshape(height, width, 2), code, dst=whole)
    if of == "BGR":
        return lambda p: convert(p.planes[0], cv2.COLOR_BGR2RGB, dst=whole)
    decode: Any = cv2.imdecode
    return lambda p: convert(decode(p.planes[0], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB, dst=whole)


def measure(pictures: list[Picture], runs: list[Run], rounds: int) -> list[tuple[float, float]]:
    """Microseconds of each, medians: from memory, and from the cache. They take turns."""
    first: list[list[float]] = [[] for _ in runs]
    again: list[list[float]] = [[] for _ in runs]
    for number, taken in zip(range(WARM_UP + rounds), itertools.cycle(pictures), strict=False):
        for run, fresh, warm in zip(runs, first, again, strict=True):
            seen = []
            for _ in range(IN_A_ROW):
                start = time.perf_counter()
                run(taken)
                seen.append((time.perf_counter() - start) * 1e6)
            if number >= WARM_UP:
                fresh.append(seen[0])
                warm += seen[1:]
    return [
        (statistics.median(fresh), statistics.median(warm))
        for fresh, warm in zip(first, again, strict=True)
    ]


def rows(of: PixelFormat, spec: ImageSpec, rounds: int) -> Iterator[str]:
    """A line of the table for each size."""
    out = np.empty((spec.height, spec.width, 3), np.uint8)
    smallest = 0.0
    for width, height in SIZES:
        pictures = [picture(of, width, height, seed) for seed in range(FRAMES)]
        prepare = Preparer(spec)

        def ours(taken: Picture, prepare: Preparer = prepare) -> None:
            prepare(taken, out)

        (fresh, one), (fresh_other, other) = measure(
            pictures, [ours, converted(pictures[0], spec, out)], rounds
        )
        _, alone = measure(pictures[:1], [ours], rounds)[0]
        smallest = smallest or alone
        yield (
            f"| {of} | {width}x{height} | {one:.0f} | {other:.0f} | {other / one:.2f} | "
            f"{fresh:.0f} | {fresh_other:.0f} | {fresh_other / fresh:.2f} | "
            f"{alone:.0f} | {alone / smallest:.2f} |"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    print(heading(f"to {given.side}x{given.side}", "1 thread", f"OpenCV {cv2.__version__}"))
    print(
        "\n| format | picture | ours, us | converted first, us | ratio | "
        "from memory: ours, us | converted first, us | ratio | ours alone, us | grew |"
    )
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for of in FORMATS:
        for row in rows(of, ImageSpec(given.side, given.side), given.rounds):
            print(row, flush=True)


if __name__ == "__main__":
    main()
