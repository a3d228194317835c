"""The definition: against OpenCV bit for bit, against real numbers, and worked out by hand."""

import dataclasses
import math
from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.device.picture import Picture, bgr, layout, rgb
from edgekit.device.pixels import reference
from edgekit.errors import SpecError
from edgekit.spec import ImageSpec

sides = st.integers(1, 150)
wanted = st.integers(1, 60)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@settings(deadline=None)
@given(sides, sides, wanted, wanted, st.sampled_from([1, 3, 4]), st.integers(0, 99))
def test_bilinear_is_opencvs(
    height: int, width: int, tall: int, wide: int, channels: int, seed: int
) -> None:
    """Equal on this kind of CPU; another's OpenCV may round otherwise, by 1."""
    plane = noise(height, width, channels, seed=seed)
    theirs = cv2.resize(plane, (wide, tall), interpolation=cv2.INTER_LINEAR)
    ours = reference.resize(plane, tall, wide)
    np.testing.assert_array_equal(ours, theirs.reshape(tall, wide, channels))


@settings(deadline=None)
@given(sides, sides, wanted, wanted)
def test_bilinear_is_within_one_of_real_numbers(
    height: int, width: int, tall: int, wide: int
) -> None:
    image = noise(height, width, 1)
    real = image.astype(np.float64)
    for axis, size in ((0, tall), (1, wide)):
        n = real.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
        low = np.floor(at).astype(int)
        share = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        after = real.take(np.minimum(low + 1, n - 1), axis)
        real = real.take(low, axis) * (1 - share) + after * share
    assert np.abs(reference.resize(image, tall, wide) - real).max() < 1


def test_bilinear_worked_out() -> None:
    plane = np.array([[[0], [100]], [[200], [44]]], np.uint8)
    # Half the size is the mean of four, (0 + 100 + 200 + 44 + 2) >> 2.
    assert reference.resize(plane, 1, 1).tolist() == [[[86]]]
    # Centres at -0.25, 0.25, 0.75, 1.25: shares 0, 1/4, 3/4, 1 along a row of two.
    assert reference.resize(plane[:1], 1, 4).ravel().tolist() == [0, 25, 75, 100]
    assert reference.resize(plane, 2, 2).tolist() == plane.tolist()


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_the_mean_is_exact(height: int, width: int, data: st.DataObject) -> None:
    tall, wide = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    plane = noise(height, width, 1)
    up, even, down = (reference.mean(plane, tall, wide, way) for way in ("up", "even", "down"))

    def covered(n: int, size: int, i: int, k: int) -> Fraction:
        start, stop = Fraction(i * n, size), Fraction((i + 1) * n, size)
        return max(Fraction(0), min(stop, Fraction(k + 1)) - max(start, Fraction(k)))

    i, j = tall // 2, wide // 2
    weighed = sum(
        covered(height, tall, i, y) * covered(width, wide, j, x) * int(plane[y, x, 0])
        for y in range(height)
        for x in range(width)
    )
    exact = weighed / Fraction(height * width, tall * wide)
    assert up[i, j, 0] == math.floor(exact + Fraction(1, 2))
    assert even[i, j, 0] == round(exact)
    assert down[i, j, 0] == math.ceil(exact - Fraction(1, 2))


def test_a_mean_in_the_middle() -> None:
    pixels = np.array([[[0, 1, 2], [1, 2, 3]]], np.uint8)
    spec = ImageSpec(1, 1, fit="stretch", interpolation="area")
    assert reference.prepare(rgb(pixels), spec).tolist() == [[[0, 2, 2]]]
    assert reference.prepare(bgr(pixels), spec).tolist() == [[[2, 2, 0]]]
    assert reference.prepare(rgb(pixels), spec, "up").tolist() == [[[1, 2, 3]]]
    assert reference.prepare(rgb(pixels), spec, "down").tolist() == [[[0, 1, 2]]]


def test_chroma_of_an_odd_crop_is_rounded_outwards() -> None:
    """Of 6 x 6 pixels the middle 4 x 4 begins at 1: chroma 0 to 3 is all of it."""
    y = np.full((6, 6), 128, np.uint8)
    u, v = noise(3, 3), noise(3, 3, seed=1)
    picture = Picture("I420", 6, 6, (y, u, v), full_range=True)
    made = reference.prepare(picture, ImageSpec(5, 5, crop_fraction=2 / 3))
    blue = 128 + 1.772 * (u.astype(float) - 128)
    blue = blue.repeat(2, axis=0).repeat(2, axis=1)[:5, :5]  # each for 2 x 2 pixels
    assert np.abs(made[..., 2] - np.clip(blue, 0, 255)).max() < 0.51


@pytest.mark.parametrize("of", ["NV12", "YUYV"])
def test_packings_are_the_same_planes(of: str) -> None:
    y, u, v = noise(7, 9), noise(4, 5, seed=1), noise(4, 5, seed=2)
    if of == "NV12":
        other = Picture("NV12", 9, 7, (y, np.stack([u, v], axis=2)))
    else:
        full = [np.repeat(c, 2, axis=0)[:7] for c in (u, v)]
        wide = np.concatenate([y, y[:, -1:]], axis=1)
        other = Picture(
            "YUYV", 9, 7, (np.stack([wide[:, ::2], full[0], wide[:, 1::2], full[1]], axis=2),)
        )
    planes = reference.separate(other)
    np.testing.assert_array_equal(planes[0], y)
    for plane, given_ in zip(planes[1:], (u, v), strict=True):
        np.testing.assert_array_equal(plane[:: 1 if of == "NV12" else 2], given_)


def test_matrix_and_range_matter() -> None:
    made = layout("NV12", 32, 32)
    picture = made.over(noise(made.nbytes))
    spec = ImageSpec(16, 16)
    results = {
        reference.prepare(
            dataclasses.replace(picture, matrix=matrix, full_range=full), spec
        ).tobytes()
        for matrix in ("bt601", "bt709")
        for full in (False, True)
    }
    assert len(results) == 4


def test_a_turned_picture_is_turned_at_the_models_size() -> None:
    pixels = noise(40, 60, 3)
    spec = ImageSpec(20, 30, fit="stretch")
    lying = reference.prepare(rgb(pixels), ImageSpec(30, 20, fit="stretch"))
    turned = reference.prepare(dataclasses.replace(rgb(pixels), turns=1), spec)
    np.testing.assert_array_equal(turned, np.rot90(lying))


def test_a_jpeg_is_not_its_to_decode() -> None:
    with pytest.raises(SpecError, match="decode the JPEG first"):
        reference.prepare(Picture("MJPEG", 1, 1, (noise(10),)), ImageSpec(1, 1))
