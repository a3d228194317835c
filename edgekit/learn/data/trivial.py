"""TrivialAugment (Mueller and Hutter, 2021, "TrivialAugment: Tuning-free Yet State-of-the-Art").

One operation, drawn evenly from fourteen, with one of 31 strengths, also drawn evenly. The
strengths are those of the paper's wide space (appendix, table of ranges). Differs from the
original (github.com/automl/trivialaugment) in that OpenCV moves pixels bilinearly, and equalises.
"""

from collections.abc import Callable
from typing import TypeAlias

import cv2
import numpy as np

STRENGTHS = 31
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13  # Pillow's ImageFilter


def trivial_augment(image: np.ndarray, chosen: float, strength: float) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> the same, changed; new memory, or `image` itself.

    Args:
        image: only read.
        chosen: in [0, 1): which operation, and of those that have two directions which.
        strength: in [0, 1): how strong.
    """
    place = chosen * len(OPERATIONS)
    operation = OPERATIONS[int(place)]
    sign = 1 if place % 1 < 0.5 else -1
    return operation(image, int(strength * STRENGTHS) / (STRENGTHS - 1), sign)


def saturate(image: np.ndarray, factor: float) -> np.ndarray:
    """0: grey; 1: as it is; above: more colourful."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, factor, grey, 1 - factor, 0)


def _identity(image: np.ndarray, strength: float, sign: int) -> np.ndarray:
    return image


def _shear_x(image: np.ndarray, strength: float, sign: int) -> np.ndarray:
    return _affine(image, ((1, sign * 0.99 * strength, 0), (0, 1, 0)))


def _shear_y(image: np.ndarray, strength: float, sign: int) -> np.ndarray:
    return _affine(image, ((1, 0, 0), (sign * 0.99 * strength, 1, 0)))


def _translate_x(image: np.ndarray, strength: float, sign: int) -> np.ndarray:
    return _affine(image, ((1, 0, sign * 32 * strength), (0, 1, 0)))


def _translate_y(image: np.ndarray, strength: float, sign: int) -> np.ndarray:
    return _affine(image, ((1, 0, 0), (0, 1, sign * 32 * strength)))


def _rotate(image: np.ndarray, strength: float, sign: int) -> np.ndarray:
    height, width = image.shape[:2]
    centre = ((width - 1) / 2, (height - 1) / 2)
    return _affine(image, cv2.getRotationMatrix2D(centre, sign * 135 * strength, 1))


def _affine(image: np.ndarray, matrix: tuple[tuple[float, ...], ...] | np.ndarray) -> np.ndarray:
    """What comes in from beyond the image is black."""
    return cv2.warpAffine(image, np.array(matrix, np.float64), image.shape[1::-1])


def _brightness(image: np.ndarray, strength: float, sign: int) -> np.ndarray:
    return cv2.convertScaleAbs(image, alpha=1 + sign * 0.99 * strength)


def _colour(image: np.ndarray, strength: float, sign: int) -> np.ndarray:
    return saturate(image, 1 + sign * 0.99 * strength)


def _contrast(image: np.ndarray, strength: float, sign: int) -> np.ndarray:
    factor = 1 + sign * 0.99 * strength
    mean = cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0]
    return cv2.addWeighted(image, factor, image, 0, round(mean) * (1 - factor))


def _sharpness(image: np.ndarray, strength: float, sign: int) -> np.ndarray:
    factor = 1 + sign * 0.99 * strength
    smooth = cv2.filter2D(image, -1, _SMOOTH, borderType=cv2.BORDER_REPLICATE)
    return cv2.addWeighted(image, factor, smooth, 1 - factor, 0)


def _posterize(image: np.ndarray, strength: float, sign: int) -> np.ndarray:
    """8 to 2 bits are left."""
    return image & np.uint8(0xFF << round(6 * strength) & 0xFF)


def _solarize(image: np.ndarray, strength: float, sign: int) -> np.ndarray:
    """What is at least as bright as the threshold is inverted: 255 down to 0."""
    return np.where(image >= 255 * (1 - strength), 255 - image, image)


def _autocontrast(image: np.ndarray, strength: float, sign: int) -> np.ndarray:
    """Each channel is stretched to the whole range; one of a single value stays."""
    lows = image.min((0, 1)).astype(np.float32)
    spans = image.max((0, 1)) - lows
    scale = np.where(spans > 0, 255 / np.maximum(spans, 1), 1)
    moved = (image - np.where(spans > 0, lows, 0)) * scale
    return np.rint(moved).astype(np.uint8)


def _equalize(image: np.ndarray, strength: float, sign: int) -> np.ndarray:
    return cv2.merge([cv2.equalizeHist(channel) for channel in cv2.split(image)])


Operation: TypeAlias = Callable[[np.ndarray, float, int], np.ndarray]

OPERATIONS: tuple[Operation, ...] = (
    _identity, _shear_x, _shear_y, _translate_x, _translate_y, _rotate, _brightness, _colour,
    _contrast, _sharpness, _posterize, _solarize, _autocontrast, _equalize,
)  # fmt: skip
"""Each takes an image, a strength in [0, 1], and a direction, 1 or -1."""
