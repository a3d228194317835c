"""Which pixels go where, as whole numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.device.pixels.placement import Box, placement
from edgekit.spec import ImageSpec

sides = st.integers(1, 300)
specs = st.builds(
    ImageSpec,
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    fit=st.sampled_from(["crop", "stretch", "letterbox"]),
    crop_fraction=st.floats(0.05, 1.0),
)


@given(sides, sides, specs)
def test_placement_stays_inside(height: int, width: int, spec: ImageSpec) -> None:
    place = placement(width, height, spec)
    for box, w, h in ((place.source, width, height), (place.target, spec.width, spec.height)):
        assert box.left >= 0
        assert box.top >= 0
        assert 1 <= box.width <= w - box.left
        assert 1 <= box.height <= h - box.top


def test_placement_worked_out() -> None:
    crop = placement(1280, 720, ImageSpec(224, 224))
    assert crop.source == Box(325, 45, 630, 630)
    assert crop.target == Box(0, 0, 224, 224)
    assert crop.to_source(0, 0) == (325, 45)
    assert crop.to_source(224, 224) == (955, 675)
    letterbox = placement(1280, 720, ImageSpec(224, 224, fit="letterbox"))
    assert letterbox.target == Box(0, 49, 224, 126)
    assert letterbox.to_source(112, 112) == (640, 360)


@given(sides, sides, specs, st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4, 8]))
def test_a_sampled_box_covers_the_box_and_stays_inside(
    width: int, height: int, spec: ImageSpec, across: int, down: int
) -> None:
    box = placement(width, height, spec).source
    less = box.sampled(across, down)
    for start, size, small, smaller, n, whole in (
        (box.left, box.width, less.left, less.width, across, width),
        (box.top, box.height, less.top, less.height, down, height),
    ):
        assert 0 <= start - small * n < n
        assert 0 <= (small + smaller) * n - (start + size) < n
        assert small + smaller <= -(-whole // n)


def test_sampling_worked_out() -> None:
    assert Box(325, 45, 630, 630).sampled(2, 2) == Box(162, 22, 316, 316)
    assert Box(325, 45, 630, 630).sampled(2, 1) == Box(162, 45, 316, 630)
    assert Box(0, 0, 7, 5).sampled(2, 2) == Box(0, 0, 4, 3)
    assert Box(3, 4, 5, 6).sampled(1, 1) == Box(3, 4, 5, 6)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@given(sides, sides, specs)
def test_a_box_turned_back_is_the_same_pixels(
    turns: int, width: int, height: int, spec: ImageSpec
) -> None:
    memory = np.arange(width * height).reshape(height, width)
    upright = np.rot90(memory, turns)
    box = placement(upright.shape[1], upright.shape[0], spec).source
    back = box.turned_back(width, height, turns)
    np.testing.assert_array_equal(np.rot90(back.of(memory), turns), box.of(upright))
