"""How sure a share is that was counted on so many cases."""

from math import sqrt

Z95 = 1.959964
"""Standard deviations on both sides that hold 95 % of a normal distribution."""


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % score interval of a share in [0, 1] that was counted on `count` cases.

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", Journal of
    the American Statistical Association 22 (1927). It stays inside [0, 1] and is right for few
    cases and for shares near the ends, where the usual share +- 2 sigma is not. No case: (0, 1).

    >>> [round(end, 3) for end in wilson(0.75, 800)]
    [0.719, 0.779]
    """
    if count < 1:
        return 0.0, 1.0
    square = Z95**2 / count
    middle = (share + square / 2) / (1 + square)
    half = Z95 * sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return max(middle - half, 0.0), min(middle + half, 1.0)
