from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.device.copies import UNCOUNTED, Copies
from edgekit.device.frame import Frame, nothing
from edgekit.device.histogram import Histogram
from edgekit.device.picture import rgb
from edgekit.device.stats import Stats, table

PICTURE = rgb(np.zeros((1, 1, 3), np.uint8))


@given(st.lists(st.integers(1_000, 10**12), min_size=1), st.floats(0.1, 100.0))
def test_a_percentile_is_at_most_one_percent_too_high(durations: list[int], p: float) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    exact = np.percentile(durations, p, method="inverted_cdf") / 1e6
    found = histogram.percentile_ms(p)
    assert exact * (1 - 1e-9) <= found <= exact * 1.01 * (1 + 1e-9)
    assert found <= histogram.highest_ns / 1e6
    assert histogram.mean_ms == pytest.approx(sum(durations) / len(durations) / 1e6)


def test_a_histogram_of_nothing_and_of_extremes() -> None:
    histogram = Histogram()
    assert (histogram.percentile_ms(50), histogram.mean_ms) == (0.0, 0.0)
    for duration in (0, 10**18):
        histogram.add(duration)
    assert histogram.percentile_ms(1) <= 0.00101
    assert histogram.count == 2


def test_copies_add_up_by_kind_and_reason() -> None:
    copies = Copies()
    copies.add("frame", "a", 3)
    copies.add("frame", "b", 4)
    copies.add("input", "a", 5)
    copies.add("frame", "a", 1)
    assert (copies.total("frame"), copies.total("input"), copies.total("output")) == (8, 5, 0)
    UNCOUNTED.add("frame", "a", 1)
    assert UNCOUNTED.by_reason == {}


def test_summary_and_table() -> None:
    stats, camera = Stats(), Copies()
    stats.follow(SimpleNamespace(copies=camera), lambda: 3)
    for sequence in (4, 5, 7, 8):
        stats.answered(Frame(PICTURE, sequence, 1, 0.0, nothing))
        stats.stages["infer"].add(2_000_000)
        stats.copies.add("input", "resize", 100)
        camera.add("frame", "convert", 1000)
    summary = stats.summary()
    assert (summary.frames, summary.produced, summary.dropped) == (4, 6, 2)
    assert summary.stages_ms["infer"].mean == 2.0
    assert summary.bytes_per_frame == {"input": 100, "frame": 1000, "output": 0, "display": 0}
    assert summary.reasons == {"input: resize": 100, "frame: convert": 1000}
    text = table(summary)
    for part in ("infer", "2.000", "frame age", "2 dropped", "frame: convert", "1,000"):
        assert part in text


def test_a_run_without_frames_has_a_summary() -> None:
    summary = Stats().summary()
    assert (summary.frames, summary.dropped, summary.fps, summary.seconds) == (0, 0, 0.0, 0.0)
    assert "0 frames" in summary.line
