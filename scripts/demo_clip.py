"""Make the demo's clip: a camera that pans and zooms over two real photographs.

    python scripts/demo_clip.py OUT.mp4

The photographs are `chelsea.png` (a cat) and `coffee.png` of scikit-image's wheel, both in the
public domain (CC0). 12 s, 640x480, 25 fps; the same bytes for the same OpenCV and FFmpeg.
"""

import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import skimage

WIDTH, HEIGHT, FPS = 640, 480, 25
SCENE_FRAMES, DISSOLVE_FRAMES = 6 * FPS, FPS // 2

# Per photograph: (centre x, centre y, width) of the camera's box at the start, middle and end of
# its scene, as fractions of the photograph's width, height and width. The camera looks where the
# carried checkpoint has a chance: of the whole cat, cut off at the chin, it thinks "rocking chair".
PATHS = {
    "chelsea.png": ((0.60, 0.40, 0.66), (0.60, 0.36, 0.53), (0.60, 0.355, 0.545)),
    "coffee.png": ((0.50, 0.50, 0.86), (0.46, 0.46, 0.68), (0.54, 0.50, 0.82)),
}


def view(photograph: np.ndarray, path: tuple[tuple[float, ...], ...], time: float) -> np.ndarray:
    """What the camera sees of (H, W, 3) uint8 at `time` in [0, 1]: (HEIGHT, WIDTH, 3) uint8."""
    rows, columns = photograph.shape[:2]
    eased = [(1 - np.cos(np.pi * t)) / 2 for t in (min(time * 2, 1.0), max(time * 2 - 1, 0.0))]
    first, middle, last = (np.array(point) for point in path)
    x, y, width = first + (middle - first) * eased[0] + (last - middle) * eased[1]
    box_width = min(width * columns, rows * WIDTH / HEIGHT)
    box_height = box_width * HEIGHT / WIDTH
    left = np.clip(x * columns - box_width / 2, 0, columns - box_width)
    top = np.clip(y * rows - box_height / 2, 0, rows - box_height)
    scale = WIDTH / box_width
    matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
    return cv2.warpAffine(
        photograph, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )


def frames() -> list[np.ndarray]:
    """Every frame of the clip, RGB; the scenes dissolve into each other."""
    folder = Path(skimage.__file__).parent / "data"
    scenes = []
    for name, path in PATHS.items():
        photograph = cv2.imread(str(folder / name), cv2.IMREAD_COLOR_RGB)
        if photograph is None:
            raise SystemExit(f"error: {folder / name} is missing: install scikit-image again")
        times = np.linspace(0.0, 1.0, SCENE_FRAMES)
        scenes.append([view(photograph, path, float(time)) for time in times])
    cat, coffee = scenes
    for i, weight in enumerate(np.linspace(0.0, 1.0, DISSOLVE_FRAMES)):
        coffee[i] = cv2.addWeighted(cat[i - DISSOLVE_FRAMES], 1 - weight, coffee[i], weight, 0)
    return cat[:-DISSOLVE_FRAMES] + coffee


def write(images: list[np.ndarray], out: Path) -> None:
    """Encode RGB frames to MPEG-4, H.264 where FFmpeg was built with it."""
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(str(out), "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=Fraction(FPS))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate = 2_000_000
        stream.thread_count = 1  # more would make the bytes depend on the machine
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def main() -> None:
    """Write the clip beside its final name, then rename: no half-written clip is left."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: demo_clip.py OUT.mp4")
    out = Path(sys.argv[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".part")
    try:
        write(frames(), partial)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
