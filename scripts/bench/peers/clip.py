"""Make the benchmark's clip of any video: 1280x720, H.264, as many frames as are wanted.

    python -m scripts.bench.peers.clip VIDEO [-o build/peers/clip720.mp4] [--frames 700]

A video that is shorter starts over; its shape is squeezed to 16:9.
"""

import argparse
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av

WIDTH, HEIGHT, FPS = 1280, 720, 25


def pictures(video: Path) -> Iterator[av.VideoFrame]:
    """Its frames, over and over."""
    while True:
        with av.open(str(video)) as container:
            for frame in container.decode(video=0):
                yield frame.reformat(WIDTH, HEIGHT, "yuv420p", interpolation="BICUBIC")


def write(video: Path, out: Path, frames: int) -> None:
    """Encode with libx264's own defaults, beside the final name, then rename."""
    partial = out.with_name(out.name + ".part")
    with av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number, picture in enumerate(islice(pictures(video), frames)):
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    partial.replace(out)


def main() -> None:
    """Make the clip."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("build/peers/clip720.mp4"))
    parser.add_argument("--frames", type=int, default=700)
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write(given.video, given.out, given.frames)
    print(given.out)


if __name__ == "__main__":
    main()
