"""Random views of training images: view v of image i is a function of (seed, i, v) alone."""

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from edgekit.learn.data import trivial
from edgekit.learn.recipe.data import Augment

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_DRAWS = (
    "area", "ratio", "left", "top", "mirror", "contrast", "brightness", "saturation", "erase",
    "erase side", "erase left", "erase top", "shift left", "shift top", "resize", "hue",
    "trivial", "trivial strength",
)  # fmt: skip
"""What each draw decides; a new one is added at the end, so that the others stay as they are."""


def uniform(seed: int, index: np.ndarray, view: np.ndarray, draw: int) -> np.ndarray:
    """Uniform in [0, 1), (N,) float64: a hash of the arguments.

    SplitMix64's finaliser (Steele et al., 2014), once for each argument.
    """
    with np.errstate(over="ignore"):
        state = np.full(index.shape, np.uint64(seed & 0xFFFFFFFFFFFFFFFF))
        for part in (index, view, np.full(index.shape, draw)):
            state = state + (part.astype(np.uint64) + np.uint64(1)) * _GOLDEN
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)) * 2.0**-53


def render(
    pixels: np.ndarray | Sequence[np.ndarray],
    index: np.ndarray,
    view: np.ndarray,
    size: tuple[int, int],
    how: Augment,
    seed: int,
) -> np.ndarray:
    """Make view `view[j]` of image `index[j]`: (len(index), *size, 3) uint8, new memory.

    In this order: shift, crop and resize, saturation, hue, contrast and brightness, mirror,
    TrivialAugment, erase. Other images of the batch have no influence.
    """

    def draw(name: str) -> np.ndarray:
        return uniform(seed, index, view, _DRAWS.index(name))

    placed = _placed(how, draw)
    coloured = _coloured(how, draw)
    mirror = draw("mirror") < how.mirror
    finished = _finished(how, draw, seed)
    out = np.empty((len(index), *size, 3), np.uint8)
    for j, i in enumerate(index):
        scaled = coloured(j, placed(j, pixels[i], size))
        out[j] = scaled[:, ::-1] if mirror[j] else scaled
        finished(j, out[j])
    return out


_Draw = Callable[[str], np.ndarray]


def _placed(how: Augment, draw: _Draw) -> Callable[[int, np.ndarray, tuple[int, int]], np.ndarray]:
    """What takes image j to its size: shifted, cropped, resized."""
    area = how.min_area + draw("area") * (1 - how.min_area)
    ratio = np.exp((2 * draw("ratio") - 1) * np.log(how.max_ratio))
    wide, high = np.sqrt(area * ratio).tolist(), np.sqrt(area / ratio).tolist()
    lefts, tops = draw("left").tolist(), draw("top").tolist()
    either = draw("resize") if how.resize == "either" else None
    if how.pad:
        right, down = (
            (draw(name) * (2 * how.pad + 1)).astype(int) for name in ("shift left", "shift top")
        )

    def place(j: int, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        if how.pad:
            image = _shift(image, how.pad, right[j], down[j])
        height, width = image.shape[:2]
        w, h = _crop(wide[j], high[j], (height, width), size, how.min_area)
        left, top = round(lefts[j] * (width - w)), round(tops[j] * (height - h))
        crop = image[top : top + h, left : left + w]
        if how.resize == "bilinear" or (either is not None and either[j] < 0.5):
            kernel = cv2.INTER_LINEAR
        else:
            shrinks = size[0] < h and size[1] < w
            kernel = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        return cv2.resize(crop, size[::-1], interpolation=kernel)

    return place


def _crop(
    wide: float, high: float, shape: tuple[int, int], size: tuple[int, int], least: float
) -> tuple[int, int]:
    """Width and height of a crop, in pixels of an image of `shape` = (height, width).

    `wide` and `high` are its sides as fractions of those of a square image. In one that is not,
    a crop of the same area and of the ratio of `size` is taken: it is not distorted. What would
    reach beyond the image is cut, but not to less than `least` of the image's area.
    """
    height, width = shape
    turn = math.sqrt((size[1] / size[0]) * (height / width))
    w, h = wide * turn, high / turn
    if w > 1:
        h = max(h, least)
    if h > 1:
        w = max(w, least)
    return (
        round(min(max(w, 1 / width), 1) * width),
        round(min(max(h, 1 / height), 1) * height),
    )


def _shift(image: np.ndarray, pad: int, right: int, down: int) -> np.ndarray:
    """Pad by reflection on all sides, then take a window of the old size: 0 to 2 pad away."""
    height, width = image.shape[:2]
    padded = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_REFLECT_101)
    return padded[down : down + height, right : right + width]


def _coloured(how: Augment, draw: _Draw) -> Callable[[int, np.ndarray], np.ndarray]:
    """What changes the colours of image j."""
    gain = 1 + (2 * draw("contrast") - 1) * how.contrast
    light = (2 * draw("brightness") - 1) * how.brightness * 255
    shift = light + 127.5 * (1 - gain)  # contrast turns about mid-grey
    colour = 1 + (2 * draw("saturation") - 1) * how.saturation
    turn = np.rint((2 * draw("hue") - 1) * how.hue * 256).astype(int) % 256

    def change(j: int, image: np.ndarray) -> np.ndarray:
        if how.saturation:
            image = trivial.saturate(image, colour[j])
        if how.hue:
            hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
            hsv[:, :, 0] += np.uint8(turn[j])  # the circle has 256 steps: it wraps around
            image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
        if how.contrast or how.brightness:
            image = cv2.addWeighted(image, gain[j], image, 0, shift[j])
        return image

    return change


def _finished(how: Augment, draw: _Draw, seed: int) -> Callable[[int, np.ndarray], None]:
    """What is done last to image j, in place."""
    erased = draw("erase") < how.erase
    places = [draw(f"erase {name}") for name in ("side", "left", "top")] if how.erase else []
    if how.trivial_augment:
        chosen, strength = draw("trivial"), draw("trivial strength")

    def finish(j: int, image: np.ndarray) -> None:
        if how.trivial_augment:
            image[:] = trivial.trivial_augment(image, chosen[j], strength[j])
        if erased[j]:
            size, left, top = (float(values[j]) for values in places)
            _erase(image, size, left, top, how.erase_with == "noise")

    return finish


def _erase(image: np.ndarray, size: float, left: float, top: float, noise: bool) -> None:
    """Make a rectangle of 2 % to 33 % of the area, of the image's ratio, mid-grey or noise."""
    height, width = image.shape[:2]
    side = np.sqrt(0.02 + 0.31 * size)
    h, w = max(round(side * height), 1), max(round(side * width), 1)
    y, x = round(top * (height - h)), round(left * (width - w))
    fill: np.ndarray | int = 128
    if noise:  # the place is the image's and view's own, so is its noise
        bits = np.random.SFC64(np.array([size, left, top]).view(np.uint32).tolist())
        fill = np.random.Generator(bits).integers(0, 256, (h, w, 3), np.uint8)
    image[y : y + h, x : x + w] = fill
