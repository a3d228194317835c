"""Fixed random views of the training images, the same for teacher and student.

View k of image i is a function of (seed, i, k) alone. So what the teacher said about it can be
kept and fits exactly what the student sees: "A good teacher is patient and consistent" (Beyer et
al., 2022, section 3).
"""

from dataclasses import dataclass

import cv2
import numpy as np

from edgekit.learn.recipe import Augmentation


@dataclass(frozen=True, slots=True)
class Views:
    """Crop, mirror and light of every view, one row an image, one column a view.

    `boxes` (N, K, 4) int32: left, top, right, bottom in source pixels. `mirror` (N, K) bool.
    `gain` and `shift` (N, K) float32: pixel -> gain * pixel + shift, clipped to 0 to 255.
    """

    boxes: np.ndarray
    mirror: np.ndarray
    gain: np.ndarray
    shift: np.ndarray


def draw(count: int, height: int, width: int, how: Augmentation, seed: int) -> Views:
    """Draw the views of `count` images of `height` x `width`."""
    rng = np.random.default_rng(seed)
    shape = (count, how.count)
    area = rng.uniform(how.min_area, 1, shape) * height * width
    ratio = np.exp(rng.uniform(-1, 1, shape) * np.log(how.max_ratio))
    w = np.clip(np.rint(np.sqrt(area * ratio)), 1, width)
    h = np.clip(np.rint(np.sqrt(area / ratio)), 1, height)
    left = np.rint(rng.uniform(0, 1, shape) * (width - w))
    top = np.rint(rng.uniform(0, 1, shape) * (height - h))
    gain = rng.uniform(1 - how.contrast, 1 + how.contrast, shape)
    light = rng.uniform(-how.brightness, how.brightness, shape) * 255
    return Views(
        boxes=np.stack((left, top, left + w, top + h), axis=-1).astype(np.int32),
        mirror=rng.random(shape) < 0.5,
        gain=gain.astype(np.float32),
        shift=(light + 127.5 * (1 - gain)).astype(np.float32),  # contrast turns about mid-grey
    )


def render(
    pixels: np.ndarray, views: Views, index: np.ndarray, view: np.ndarray, size: int
) -> np.ndarray:
    """Make view `view[j]` of image `index[j]`: (len(index), size, size, 3) uint8, new memory."""
    out = np.empty((len(index), size, size, 3), np.uint8)
    for j, (i, k) in enumerate(zip(index, view, strict=True)):
        left, top, right, bottom = views.boxes[i, k]
        crop = pixels[i, top:bottom, left:right]
        shrinks = size < min(crop.shape[:2])
        scaled = cv2.resize(
            crop, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        )
        lit = cv2.addWeighted(scaled, views.gain[i, k], scaled, 0, views.shift[i, k])
        out[j] = lit[:, ::-1] if views.mirror[i, k] else lit
    return out
