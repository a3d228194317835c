import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.device.measure.interval import wilson


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),  # R: binom::binom.wilson(0, 10)
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (606, 800, 0.7266, 0.7859),
    ],
)
def test_it_is_wilsons(hits: int, count: int, low: float, high: float) -> None:
    assert wilson(hits / count, count) == pytest.approx((low, high), abs=1e-3)


def test_nothing_counted_is_nothing_known() -> None:
    assert wilson(0.0, 0) == (0.0, 1.0)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_it_holds_the_share_and_stays_in_bounds(count: int, share: float) -> None:
    low, high = wilson(share, count)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
