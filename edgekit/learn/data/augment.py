"""Random views of training images: view v of image i is a function of (seed, i, v) alone."""

import cv2
import numpy as np

from edgekit.learn.recipe.data import Augment

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


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
    pixels: np.ndarray | tuple[np.ndarray, ...],
    index: np.ndarray,
    view: np.ndarray,
    size: tuple[int, int],
    how: Augment,
    seed: int,
) -> np.ndarray:
    """Make view `view[j]` of image `index[j]`: (len(index), *size, 3) uint8, new memory."""
    draw = [uniform(seed, index, view, n) for n in range(12)]
    area = how.min_area + draw[0] * (1 - how.min_area)
    ratio = np.exp((2 * draw[1] - 1) * np.log(how.max_ratio))
    mirror = draw[4] < how.mirror
    gain = 1 + (2 * draw[5] - 1) * how.contrast
    light = (2 * draw[6] - 1) * how.brightness * 255
    shift = light + 127.5 * (1 - gain)  # contrast turns about mid-grey
    colour = 1 + (2 * draw[7] - 1) * how.saturation
    erased = draw[8] < how.erase
    out = np.empty((len(index), *size, 3), np.uint8)
    for j, i in enumerate(index):
        height, width = pixels[i].shape[:2]
        w = round(min(max(np.sqrt(area[j] * ratio[j]), 1 / width), 1) * width)
        h = round(min(max(np.sqrt(area[j] / ratio[j]), 1 / height), 1) * height)
        left, top = round(draw[2][j] * (width - w)), round(draw[3][j] * (height - h))
        crop = pixels[i][top : top + h, left : left + w]
        shrinks = size[0] < h and size[1] < w
        kernel = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        scaled = cv2.resize(crop, size[::-1], interpolation=kernel)
        if how.saturation:
            grey = cv2.cvtColor(cv2.cvtColor(scaled, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            scaled = cv2.addWeighted(scaled, colour[j], grey, 1 - colour[j], 0)
        if how.contrast or how.brightness:
            scaled = cv2.addWeighted(scaled, gain[j], scaled, 0, shift[j])
        out[j] = scaled[:, ::-1] if mirror[j] else scaled
        if erased[j]:
            _erase(out[j], *(d[j] for d in draw[9:12]))
    return out


def _erase(image: np.ndarray, size: float, left: float, top: float) -> None:
    """Make a square of 2 % to 33 % of the area mid-grey."""
    height, width = image.shape[:2]
    side = np.sqrt(0.02 + 0.31 * size)
    h, w = max(round(side * height), 1), max(round(side * width), 1)
    y, x = round(top * (height - h)), round(left * (width - w))
    image[y : y + h, x : x + w] = 128
