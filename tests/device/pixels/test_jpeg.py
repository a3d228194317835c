"""JPEGs of a camera: the scale, damage, and what webcams do to them."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.device.pixels.jpeg import Decoder, reduction
from edgekit.device.pixels.placement import Box
from edgekit.errors import ImageError

WIDTH, HEIGHT = 61, 45


def scene() -> np.ndarray:
    """(45, 61, 3) BGR, smooth, every colour different."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([3 * x, 5 * y, 255 - 2 * x - 2 * y], axis=2).astype(np.uint8)


def encoded(pixels: np.ndarray) -> np.ndarray:
    return np.frombuffer(
        cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes(), np.uint8
    )


JPEG = encoded(scene())


def changed(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


@pytest.mark.parametrize(
    ("box", "wanted", "expected"),
    [
        (Box(325, 45, 630, 630), (224, 224), 2),
        (Box(975, 135, 1890, 1890), (224, 224), 8),
        (Box(975, 135, 1890, 1890), (237, 224), 4),
        (Box(0, 0, 447, 448), (224, 224), 1),
        (Box(0, 0, 448, 448), (224, 224), 2),
        (Box(0, 0, 5000, 448), (224, 224), 2),
        (Box(0, 0, 10, 10), (224, 224), 1),
    ],
)
def test_the_scale_is_the_smallest_that_has_the_pixels(
    box: Box, wanted: tuple[int, int], expected: int
) -> None:
    assert reduction(box, *wanted) == expected


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_a_scale_gives_the_picture_smaller(n: int) -> None:
    decode = Decoder(WIDTH, HEIGHT, n)
    pixels = decode(JPEG)
    assert pixels is decode.pixels
    assert pixels.shape == (-(-HEIGHT // n), -(-WIDTH // n), 3)
    whole = np.pad(scene()[..., ::-1].astype(float), ((0, 8), (0, 8), (0, 0)), "edge")
    rows, columns = HEIGHT // n, WIDTH // n  # without blocks that reach over the edge
    means = whole[: rows * n, : columns * n].reshape(rows, n, columns, n, 3).mean((1, 3))
    assert np.abs(pixels[:rows, :columns] - means).mean() < 4


def test_it_decodes_into_the_same_memory_again() -> None:
    decode = Decoder(WIDTH, HEIGHT, 2)
    first = decode(JPEG).copy()
    decode(encoded(255 - scene()))
    assert np.abs(decode.pixels.astype(int) - first).mean() > 30
    np.testing.assert_array_equal(decode(JPEG), first)


def test_grey_becomes_three_equal_channels() -> None:
    pixels = Decoder(WIDTH, HEIGHT, 1)(encoded(scene()[..., 1]))
    assert (pixels == pixels[..., :1]).all()
    assert np.abs(pixels[..., 1].astype(int) - scene()[..., 1]).max() < 12


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8" + bytes(100),
        b"no JPEG at all",
        bytes(5000),
        JPEG.tobytes()[: len(JPEG) // 2],
        JPEG.tobytes()[:-2],
        JPEG.tobytes()[:200],
    ],
    ids=[
        "empty",
        "a byte",
        "nothing in it",
        "zeros",
        "text",
        "all zeros",
        "half",
        "no end",
        "head",
    ],
)
def test_what_is_damaged(data: bytes) -> None:
    with pytest.raises(ImageError, match=f"cannot decode a JPEG of {len(data)} bytes"):
        Decoder(WIDTH, HEIGHT, 1)(changed(data))


def test_many_bytes_over_are_damage() -> None:
    data = JPEG.tobytes()
    with pytest.raises(ImageError, match="extraneous"):
        Decoder(WIDTH, HEIGHT, 1)(changed(data[:-2] + b"\x11" * 40 + data[-2:]))


def test_what_webcams_do_is_no_damage() -> None:
    """A few bytes before the end, padding after it, and no Huffman tables, which are standard."""
    data = JPEG.tobytes()
    expected = Decoder(WIDTH, HEIGHT, 2)(JPEG).copy()
    bare, at = bytearray(data[:2]), 2
    while data[at + 1] != 0xDA:  # segments up to the start of the scan
        length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] != 0xC4:
            bare += data[at : at + length]
        at += length
    bare += data[at:]
    assert len(bare) < len(data) - 400
    for quirk in (data[:-2] + b"\x11\x22\x33" + data[-2:], data + bytes(1000), bytes(bare)):
        np.testing.assert_array_equal(Decoder(WIDTH, HEIGHT, 2)(changed(quirk)), expected)


def test_another_size() -> None:
    with pytest.raises(ImageError, match="61 x 45 pixels in a stream of 64 x 48"):
        Decoder(64, 48, 1)(JPEG)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(JPEG) - 1), st.binary(min_size=1, max_size=40), st.integers(0, 40))
def test_any_damage_is_an_error_or_a_picture(at: int, new: bytes, gone: int) -> None:
    data = JPEG.tobytes()
    decode = Decoder(WIDTH, HEIGHT, 1)
    try:
        pixels = decode(changed(data[:at] + new + data[at + gone :]))
    except ImageError:
        return
    assert pixels.shape == (HEIGHT, WIDTH, 3)
