"""Multipliers `2^j / q`, q odd: no integer times one of them is a half (see `exact`)."""

import math

LEAST = 512
"""The odd q is larger: then M is met within 2 / q, that is 0.4 %."""


def at_least(wanted: float) -> float:
    """The least `2^j / q`, q odd and over 510, that is `wanted` (> 0) or more."""
    power = max(0, math.ceil(math.log2(LEAST * wanted)))
    odd = math.floor(2.0**power / wanted * (1 + 1e-9))
    return float(2.0**power / (odd - 1 + odd % 2))


def at_most(wanted: float) -> float:
    """The largest `2^j / q`, q odd and over 510, that is `wanted` (> 0) or less."""
    power = max(0, math.ceil(math.log2(LEAST * wanted)))
    odd = math.ceil(2.0**power / wanted * (1 - 1e-9))
    return float(2.0**power / (odd + 1 - odd % 2))


def is_exact(multiplier: float) -> bool:
    """Whether it is `2^j / q` with q odd, within a float32's rounding."""
    power = max(0, math.ceil(math.log2(LEAST * multiplier)))
    for q in (2.0**power / multiplier, 2.0 ** (power - 1) / multiplier):
        if round(q) % 2 == 1 and abs(round(q) / q - 1) < 1e-6:
            return True
    return False
