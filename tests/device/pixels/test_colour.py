"""The colour tables, against the recommendations' own words and known colours."""

import numpy as np
import pytest

from edgekit.device.picture import Matrix
from edgekit.device.pixels.colour import ONE, grey_levels, grey_to_rgb, to_rgb


def apply(matrix: Matrix, full_range: bool, y: int, u: int, v: int) -> list[int]:
    table = to_rgb(matrix, full_range)
    whole = (table @ np.array([y, u, v, 1]) + ONE // 2) >> 16
    return [int(n) for n in np.clip(whole, 0, 255)]


def test_the_table_of_bt601_in_limited_range() -> None:
    np.testing.assert_array_equal(
        to_rgb("bt601", False),
        [
            [76309, 0, 104597, -76309 * 16 - 104597 * 128],
            [76309, -25675, -53279, -76309 * 16 + (25675 + 53279) * 128],
            [76309, 132201, 0, -76309 * 16 - 132201 * 128],
        ],
    )


def test_the_coefficients_of_jfif() -> None:
    """JFIF 1.02, page 3."""
    given = [[1, 0, 1.402], [1, -0.34414, -0.71414], [1, 1.772, 0]]
    np.testing.assert_allclose(to_rgb("bt601", True)[:, :3] / ONE, given, atol=1e-5)


@pytest.mark.parametrize(
    ("matrix", "full_range", "yuv", "rgb"),
    [
        ("bt601", False, (16, 128, 128), [0, 0, 0]),
        ("bt601", False, (235, 128, 128), [255, 255, 255]),
        ("bt709", True, (255, 128, 128), [255, 255, 255]),
        ("bt601", False, (81, 90, 240), [254, 0, 0]),  # the usual 8-bit red, green, blue
        ("bt601", False, (145, 54, 34), [0, 255, 1]),
        ("bt601", False, (41, 240, 110), [0, 0, 255]),
        ("bt709", False, (63, 102, 240), [255, 1, 0]),
        ("bt709", False, (173, 42, 26), [0, 255, 1]),
        ("bt709", False, (32, 240, 118), [1, 0, 255]),
        ("bt601", True, (76, 85, 255), [254, 0, 0]),
        ("bt601", False, (0, 0, 0), [0, 136, 0]),
        ("bt601", False, (255, 255, 255), [255, 125, 255]),
    ],
)
def test_known_colours(
    matrix: Matrix, full_range: bool, yuv: tuple[int, int, int], rgb: list[int]
) -> None:
    assert apply(matrix, full_range, *yuv) == rgb


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_it_undoes_the_recommendation(matrix: Matrix, full_range: bool) -> None:
    """From colours to Y, U, V in real numbers as written there, and back by the table."""
    kr, kb = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}[matrix]
    rgb = np.random.default_rng(0).uniform(0, 1, (500, 3))
    y = rgb @ [kr, 1 - kr - kb, kb]
    u, v = (rgb[:, 2] - y) / (2 - 2 * kb), (rgb[:, 0] - y) / (2 - 2 * kr)
    grey, colour, black = (255, 255, 0) if full_range else (219, 224, 16)
    given = np.stack([grey * y + black, colour * u + 128, colour * v + 128, np.ones(500)])
    np.testing.assert_allclose((to_rgb(matrix, full_range) @ given).T / ONE, 255 * rgb, atol=0.01)


def test_grey() -> None:
    np.testing.assert_array_equal(grey_levels(True), np.arange(256))
    assert [int(grey_levels(False)[y]) for y in (0, 16, 17, 126, 235, 255)] == [
        0, 0, 1, 128, 255, 255,
    ]  # fmt: skip
    assert grey_to_rgb(False).tolist() == [[76309, -76309 * 16]] * 3
