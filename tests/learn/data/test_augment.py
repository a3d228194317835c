"""Views: what they are a function of, what they may be, and how they are spread."""

from dataclasses import replace
from typing import Literal

import cv2
import numpy as np
import pytest

from edgekit.device.image import prepare
from edgekit.learn.data import trivial
from edgekit.learn.data.augment import render, uniform
from edgekit.learn.recipe.data import Augment
from edgekit.spec import ImageSpec

NOTHING = Augment(min_area=1.0, mirror=0.0)
ALL = Augment(
    pad=2, contrast=0.3, brightness=0.2, saturation=0.5, hue=0.2, trivial_augment=True, erase=0.5,
    erase_with="noise", resize="either",
)  # fmt: skip
ONES = [
    Augment(),
    replace(NOTHING, mirror=0.5),
    *(replace(NOTHING, **{name: 0.4}) for name in ("brightness", "contrast", "saturation", "hue")),  # type: ignore[arg-type]
    replace(NOTHING, trivial_augment=True),
    replace(NOTHING, erase=1.0),
    replace(NOTHING, erase=1.0, erase_with="noise"),
    replace(NOTHING, pad=3),
    replace(Augment(), resize="either"),
    ALL,
]


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """(6, 24, 20, 3): smooth, and each its own."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 6, 5, 3), np.uint8)
    return np.stack([cv2.resize(image, (20, 24), interpolation=cv2.INTER_CUBIC) for image in noise])


def ramp(height: int, width: int) -> np.ndarray:
    """(1, height, width, 3): red tells the column, green the row, both from 0 to 250."""
    image = np.zeros((1, height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 250, width)
    image[..., 1] = np.linspace(0, 250, height)[:, None]
    image[..., 2] = 100
    return image


def views(pixels: np.ndarray, how: Augment, count: int, size: tuple[int, int]) -> np.ndarray:
    """(count, *size, 3): many views of the first image."""
    return render(pixels, np.zeros(count, int), np.arange(count), size, how, 1)


@pytest.mark.parametrize("how", ONES)
def test_a_view_depends_on_seed_image_and_view_alone(pixels: np.ndarray, how: Augment) -> None:
    index, view = np.array([5, 0, 3, 3, 1]), np.array([0, 7, 2, 3, 100_000])
    whole = render(pixels, index, view, (16, 16), how, 9)
    assert whole.shape == (5, 16, 16, 3)
    assert whole.dtype == np.uint8
    for j in range(5):
        alone = render(tuple(pixels), index[j : j + 1], view[j : j + 1], (16, 16), how, 9)
        np.testing.assert_array_equal(alone[0], whole[j])
    for other in (
        render(pixels, index, view + 1, (16, 16), how, 9),
        render(pixels, index, view, (16, 16), how, 10),
    ):
        assert (other != whole).any()


def test_without_augmentation_the_image_stays(pixels: np.ndarray) -> None:
    index = np.arange(6)
    np.testing.assert_array_equal(render(pixels, index, index, (24, 20), NOTHING, 1), pixels)


def test_the_source_is_only_read(pixels: np.ndarray) -> None:
    before = pixels.copy()
    whole = replace(ALL, min_area=1.0, pad=0)
    for how in (*ONES, whole):
        render(pixels, np.arange(6), np.arange(6), (24, 20), how, 1)
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize(("height", "width"), [(100, 100), (60, 140), (150, 40)])
@pytest.mark.parametrize("least", [0.08, 0.35, 0.9])
def test_crops_have_the_areas_and_ratios_asked_for(height: int, width: int, least: float) -> None:
    how = Augment(min_area=least, mirror=0.0, resize="bilinear")
    found = views(ramp(height, width), how, 600, (32, 32)).astype(float)
    wide = np.ptp(found[:, 16, :, 0], axis=1) / 250 * 32 / 31  # of the image, as a fraction
    high = np.ptp(found[:, :, 16, 1], axis=1) / 250 * 32 / 31
    area = wide * high
    assert area.min() > least - 0.08
    assert area.max() <= 1.1
    ratio = (wide * width) / (high * height)
    whole = (wide > 0.93) | (high > 0.93)  # cut at the image's border
    assert ratio[~whole].max(initial=1) < 1.3333 * 1.15
    assert ratio[~whole].min(initial=1) > 0.75 / 1.15
    if (height, width, least) == (100, 100, 0.08):
        np.testing.assert_allclose(area.mean(), 0.54, atol=0.04)
        left = found[:, 16, 0, 0] / 250
        free = left[wide < 0.5] / (1 - wide[wide < 0.5])
        np.testing.assert_allclose(np.quantile(free, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.08)


@pytest.mark.parametrize("shape", [(20, 20), (20, 31), (31, 20)])
def test_all_of_the_area_is_the_whole_image(shape: tuple[int, int]) -> None:
    found = views(ramp(*shape), NOTHING, 50, shape)
    np.testing.assert_array_equal(found, np.repeat(ramp(*shape), 50, 0))


def test_half_are_mirrored(pixels: np.ndarray) -> None:
    found = views(pixels, replace(NOTHING, mirror=0.5), 1000, (24, 20))
    mirrored = (found == pixels[0][:, ::-1]).all((1, 2, 3))
    plain = (found == pixels[0]).all((1, 2, 3))
    assert (mirrored ^ plain).all()
    np.testing.assert_allclose(mirrored.mean(), 0.5, atol=0.05)


def test_padding_shifts_by_whole_pixels() -> None:
    image = ramp(20, 20)
    found = views(image, replace(NOTHING, pad=4), 800, (20, 20))
    rows = image[0, :, :, 0][0].astype(int)
    shifts = []
    for view in found:
        inner = view[8:12, 4:16, 0].astype(int)
        fits = [s for s in range(-4, 5) if (inner[0] == rows[4 + s : 16 + s]).all()]
        assert len(fits) == 1
        shifts.append(fits[0])
    assert np.bincount(np.array(shifts) + 4).min() > 800 / 9 * 0.6


@pytest.mark.parametrize("resize", ["area", "bilinear", "either"])
def test_the_kernel_is_the_one_asked_for(resize: Literal["area", "bilinear", "either"]) -> None:
    checkers = np.zeros((1, 32, 32, 3), np.uint8)
    checkers[0, ::2] = 255
    found = views(checkers, replace(NOTHING, resize=resize), 200, (11, 11))
    smooth = found.std((1, 2, 3)) < 60  # the mean of three rows
    share = {"area": 1.0, "bilinear": 0.0, "either": 0.5}[resize]
    np.testing.assert_allclose(smooth.mean(), share, atol=0.12 * (share == 0.5))


@pytest.mark.parametrize("kernel", ["area", "bilinear"])
def test_a_whole_view_is_what_the_contract_makes(
    pixels: np.ndarray, kernel: Literal["area", "bilinear"]
) -> None:
    spec = ImageSpec(15, 12, "stretch", crop_fraction=1.0, interpolation=kernel)
    wanted = np.empty((15, 12, 3), np.uint8)
    prepare(pixels[4], "RGB", spec, wanted)
    found = render(
        pixels, np.array([4]), np.array([0]), (15, 12), replace(NOTHING, resize=kernel), 1
    )
    np.testing.assert_allclose(found[0].astype(int), wanted, atol=1)


def test_colours_stay_within_their_ranges() -> None:
    grey = np.full((1, 4, 4, 3), 100, np.uint8)
    bright = views(grey, replace(NOTHING, brightness=0.1), 500, (4, 4))[:, 0, 0].astype(int)
    assert abs(bright.min() - 74.5) <= 1
    assert abs(bright.max() - 125.5) <= 1
    flat = views(grey, replace(NOTHING, contrast=0.4), 500, (4, 4))[:, 0, 0].astype(int)
    assert abs(flat.max() - (127.5 - 27.5 * 0.6)) <= 1
    assert abs(flat.min() - (127.5 - 27.5 * 1.4)) <= 1
    for how in (replace(NOTHING, saturation=1.0), replace(NOTHING, hue=0.5)):
        assert (views(grey, how, 50, (4, 4)) == 100).all(), "grey has neither"
    red = np.zeros((1, 4, 4, 3), np.uint8)
    red[..., 0] = 200
    turned = views(red, replace(NOTHING, hue=0.1), 300, (4, 4))[:, 0, 0].astype(int)
    assert (turned[:, 0] == 200).all(), "less than 60 degrees away red is still the largest"
    assert turned[:, 1].max() > 100 < turned[:, 2].max()
    around = views(red, replace(NOTHING, hue=0.5), 300, (4, 4))[:, 0, 0]
    assert {0, 1, 2} == set(around.argmax(1))


def test_erasing_takes_two_to_a_third_of_the_area(pixels: np.ndarray) -> None:
    dark = np.zeros((1, 40, 60, 3), np.uint8)
    found = views(dark, replace(NOTHING, erase=0.6), 800, (40, 60))
    area = (found == 128).all(3).mean((1, 2))
    assert ((found == 0) | (found == 128)).all()
    np.testing.assert_allclose((area > 0).mean(), 0.6, atol=0.06)
    assert 0.01 < area[area > 0].min() < 0.04
    assert 0.3 < area.max() < 0.36
    hit = (found == 128).all(3)[area > 0].mean(0)
    assert hit[4:-4, 4:-4].min() > 0.02, "everywhere, but less at the border"
    noisy = views(dark, replace(NOTHING, erase=1.0, erase_with="noise"), 40, (40, 60))
    assert 100 < noisy[noisy > 0].mean() < 155
    assert len({view.tobytes() for view in noisy}) == 40


def test_uniform_is_uniform_and_uncorrelated() -> None:
    index, view = np.repeat(np.arange(500), 20), np.tile(np.arange(20), 500)
    draws = np.stack([uniform(3, index, view, draw) for draw in range(6)])
    assert draws.min() >= 0
    assert draws.max() < 1
    counts = np.stack([np.histogram(draw, 10, (0, 1))[0] for draw in draws])
    chi = ((counts - 1000) ** 2 / 1000).sum(1)
    assert chi.max() < 30, "99.9 % of what is uniform stays below 27.9"
    assert np.abs(np.corrcoef(draws) - np.eye(6)).max() < 0.04
    shifted = np.corrcoef(draws[0][:-20], draws[0][20:])[0, 1]
    assert abs(shifted) < 0.04


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 5)])
@pytest.mark.parametrize("side", [(1, 1), (2, 3), (3, 1)])
def test_tiny_images_and_sizes(side: tuple[int, int], size: tuple[int, int]) -> None:
    image = np.full((1, *side, 3), 7, np.uint8)
    assert views(image, replace(ALL, pad=4), 60, size).shape == (60, *size, 3)


class TestTrivialAugment:
    def test_all_operations_and_strengths_are_drawn(self, pixels: np.ndarray) -> None:
        found = views(pixels, replace(NOTHING, trivial_augment=True), 2000, (24, 20))
        same = (found == pixels[0]).all((1, 2, 3)).mean()
        least = 1 / 14 + 11 / 14 / 31 / 2  # the identity, and others of strength 0
        assert least < same < 0.2
        assert len({view.tobytes() for view in found}) > 300

    @pytest.mark.parametrize("operation", trivial.OPERATIONS)
    @pytest.mark.parametrize("sign", [1, -1])
    def test_an_operation_keeps_shape_type_and_source(
        self, pixels: np.ndarray, operation: trivial.Operation, sign: int
    ) -> None:
        before = pixels[1].copy()
        for strength in (0.0, 0.3, 1.0):
            out = operation(pixels[1], strength, sign)
            assert out.shape == (24, 20, 3)
            assert out.dtype == np.uint8
        np.testing.assert_array_equal(pixels[1], before)

    def test_no_strength_is_no_change(self, pixels: np.ndarray) -> None:
        for operation in trivial.OPERATIONS:
            if operation.__name__ not in ("_autocontrast", "_equalize", "_solarize"):
                np.testing.assert_array_equal(operation(pixels[2], 0.0, 1), pixels[2])

    def test_full_strength_is_that_of_the_paper(self, pixels: np.ndarray) -> None:
        named = {operation.__name__[1:]: operation for operation in trivial.OPERATIONS}
        image = pixels[3]
        big = cv2.resize(image, (100, 100))
        moved = named["translate_x"](big, 1.0, 1)
        np.testing.assert_array_equal(moved[:, 32:], big[:, :-32])
        assert (moved[:, :32] == 0).all()
        np.testing.assert_array_equal(named["translate_y"](big, 1.0, -1)[:-32], big[32:])
        np.testing.assert_array_equal(named["posterize"](image, 1.0, 1), image & 0b11000000)
        np.testing.assert_array_equal(named["solarize"](image, 1.0, 1), 255 - image)
        assert named["brightness"](image, 1.0, -1).max() <= 3
        assert np.ptp(named["contrast"](image, 1.0, -1).astype(int), (0, 1)).max() <= 4
        grey = named["colour"](image, 1.0, -1).astype(int)
        assert np.ptp(grey, 2).max() <= 4
        stretched = named["autocontrast"](image // 2 + 20, 0.0, 1)
        assert (stretched.min((0, 1)) == 0).all()
        assert (stretched.max((0, 1)) == 255).all()
        assert named["sharpness"](image, 1.0, 1).std() > image.std()
        assert named["sharpness"](image, 1.0, -1).std() < image.std()
        sheared = named["shear_x"](big, 1.0, 1)
        np.testing.assert_array_equal(sheared[0], big[0])
        assert (sheared[-1, :97] == 0).all(), "the last row has moved by 98 pixels"
        turned = named["rotate"](np.full((101, 101, 3), 255, np.uint8), 1.0, 1)
        assert (turned[0, 0] == 0).all()
        assert (turned[50, 50] == 255).all()
