"""Views are a function of seed, image and number; they stay inside the image."""

import dataclasses

import numpy as np
import pytest

from edgekit.learn.recipe import Augmentation
from edgekit.learn.views import draw, render

HOW = Augmentation(count=5, min_area=0.3, max_ratio=4 / 3, contrast=0.25, brightness=0.1)
PLAIN = Augmentation(count=2, min_area=1, max_ratio=1, contrast=0, brightness=0)
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), np.uint8)


def test_the_seed_decides() -> None:
    first, again, other = (draw(50, 64, 64, HOW, seed) for seed in (1, 1, 2))
    for field in dataclasses.fields(first):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(again, field.name))
        assert not np.array_equal(getattr(first, field.name), getattr(other, field.name))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 96), (1, 7)])
def test_crops_lie_inside_the_image_and_keep_the_area(height: int, width: int) -> None:
    left, top, right, bottom = np.moveaxis(draw(500, height, width, HOW, 0).boxes, -1, 0)
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (left < right).all()
    assert (top < bottom).all()
    assert (right <= width).all()
    assert (bottom <= height).all()
    if height == width == 64:
        area = (right - left) * (bottom - top) / 64**2
        assert area.min() > 0.28
        assert area.max() == 1
        assert 0.6 < area.mean() < 0.7


def test_the_whole_image_without_change_is_the_image() -> None:
    views = dataclasses.replace(draw(3, 20, 20, PLAIN, 0), mirror=np.zeros((3, 2), bool))
    index = np.array([2, 0])
    out = render(PIXELS, views, index, np.array([0, 1]), 20)
    np.testing.assert_array_equal(out, PIXELS[index])


def test_a_mirrored_view_is_turned_left_to_right() -> None:
    views = dataclasses.replace(draw(3, 20, 20, PLAIN, 0), mirror=np.ones((3, 2), bool))
    out = render(PIXELS, views, np.array([1]), np.array([0]), 20)
    np.testing.assert_array_equal(out[0], PIXELS[1][:, ::-1])


def test_light_is_clipped_at_both_ends() -> None:
    views = draw(3, 20, 20, PLAIN, 0)
    for shift, value in ((-1000, 0), (1000, 255)):
        dark = dataclasses.replace(views, shift=np.full((3, 2), shift, np.float32))
        assert (render(PIXELS, dark, np.array([0]), np.array([0]), 8) == value).all()


def test_a_size_gives_the_same_crop_larger_or_smaller() -> None:
    views = draw(3, 20, 20, HOW, 3)
    index, view = np.array([0, 1, 2]), np.array([0, 1, 2])
    small, large = (
        render(PIXELS, views, index, view, size).mean(axis=(1, 2, 3)) for size in (8, 32)
    )
    np.testing.assert_allclose(small, large, atol=6)
