"""From Y, U and V to red, green and blue: whole numbers, the same on every device.

Each of red, green and blue is clip(floor((a Y + b U + c V + d) / 65536 + 1/2)), with a, b, c, d a
row of the table that `to_rgb` gives. They follow ITU-R BT.601-7 and BT.709-6, section 3: with the
weights Kr, Kb of red and blue in Y, and Kg = 1 - Kr - Kb,

    R = Y' + 2 (1 - Kr) V'
    G = Y' - 2 Kb (1 - Kb) / Kg U' - 2 Kr (1 - Kr) / Kg V'
    B = Y' + 2 (1 - Kb) U'

where Y' = Y, U' = U - 128 and V' = V - 128 in full range (JFIF), and in limited range
Y' = 255 (Y - 16) / 219, U' = 255 (U - 128) / 224, V' likewise.
"""

import functools

import numpy as np

from edgekit.device.picture import Matrix

ONE = 1 << 16
"""What the coefficients are multiplied with."""

LUMA: dict[Matrix, tuple[float, float]] = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}
"""Kr and Kb."""


@functools.lru_cache
def to_rgb(matrix: Matrix, full_range: bool) -> np.ndarray:
    """The table: (3, 4) int64, rows R, G, B; columns of Y, U, V, and what is added.

    The coefficients are rounded to 1/65536; the last column is -a black - b 128 - c 128.
    """
    kr, kb = LUMA[matrix]
    kg = 1 - kr - kb
    grey, colour, black = (1.0, 1.0, 0) if full_range else (255 / 219, 255 / 224, 16)
    real = np.array(
        [
            [grey, 0.0, 2 * (1 - kr) * colour],
            [grey, -2 * kb * (1 - kb) / kg * colour, -2 * kr * (1 - kr) / kg * colour],
            [grey, 2 * (1 - kb) * colour, 0.0],
        ]
    )
    whole = np.rint(real * ONE).astype(np.int64)
    table = np.column_stack([whole, -whole @ np.array([black, 128, 128])])
    table.flags.writeable = False
    return table


@functools.lru_cache
def grey_to_rgb(full_range: bool) -> np.ndarray:
    """The same of a picture that has only Y, U = V = 128: (3, 2) int64, of Y and what is added."""
    whole = to_rgb("bt601", full_range)
    table = np.column_stack([whole[:, 0], whole[:, 3] + whole[:, 1:3].sum(1) * 128])
    table.flags.writeable = False
    return table


@functools.lru_cache
def grey_levels(full_range: bool) -> np.ndarray:
    """What each Y of a grey picture becomes: (256,) uint8."""
    a, d = grey_to_rgb(full_range)[0]
    wide = (a * np.arange(256) + d + ONE // 2) >> 16
    levels: np.ndarray = np.clip(wide, 0, 255).astype(np.uint8)
    levels.flags.writeable = False
    return levels
