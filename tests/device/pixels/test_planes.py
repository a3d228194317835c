"""What a picture must look like, and what OpenCV can address."""

import dataclasses
from typing import Any

import cv2
import numpy as np
import pytest

from edgekit.device.picture import FORMATS, Picture, PixelFormat, layout
from edgekit.device.pixels.planes import addressable, check
from edgekit.errors import SpecError


def picture(of: PixelFormat, width: int, height: int) -> Picture:
    made = layout(of, width, height, nbytes=100)
    return made.over(bytearray(made.nbytes), used=100)


@pytest.mark.parametrize("of", FORMATS)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (8, 6)])
def test_what_a_layout_makes_fits(of: PixelFormat, width: int, height: int) -> None:
    check(picture(of, width, height))


@pytest.mark.parametrize("of", ["RGB", "BGR", "GREY", "YUYV", "NV12", "I420"])
def test_planes_of_another_size(of: PixelFormat) -> None:
    for width, height in ((9, 6), (8, 7), (10, 6)):
        with pytest.raises(SpecError, match=rf"{of} of {width} x {height} pixels has planes"):
            check(dataclasses.replace(picture(of, 8, 6), width=width, height=height))


def test_the_message_says_both() -> None:
    with pytest.raises(
        SpecError, match=r"shapes \(6, 7\) and \(3, 4, 2\), got \(6, 8\) and \(3, 4, 2\)"
    ):
        check(dataclasses.replace(picture("NV12", 8, 6), width=7))
    with pytest.raises(SpecError, match=r"\(6, 8, 3\), got none"):
        check(Picture("RGB", 8, 6, ()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "at least one pixel, got 0 x 6"),
        ({"height": -1}, "at least one pixel"),
        ({"turns": 4}, "0, 1, 2 or 3, got 4"),
        ({"matrix": "bt2020"}, "no colour matrix 'bt2020'; there are bt601, bt709"),
        ({"format": "NV21"}, "no pixel format 'NV21'; there are RGB"),
        ({"planes": (np.zeros((6, 8), np.int8),)}, "must be uint8, got int8"),
    ],
)
def test_other_faults(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        check(dataclasses.replace(picture("GREY", 8, 6), **change))


@pytest.mark.parametrize(
    "planes",
    [(), (np.zeros((2, 50), np.uint8),), (np.zeros(100, np.uint8)[::2],)],
    ids=["none", "two rows", "gaps"],
)
def test_a_jpeg_that_is_no_row_of_bytes(planes: tuple[np.ndarray, ...]) -> None:
    with pytest.raises(SpecError, match="one row of bytes"):
        check(Picture("MJPEG", 8, 6, planes))


@pytest.mark.parametrize("channels", [None, 2, 3, 4])
def test_addressable_is_what_opencv_takes_to_write(channels: int | None) -> None:
    """It refuses to write into memory that it cannot address, and says so."""
    whole = np.zeros((20, 30) if channels is None else (20, 30, channels), np.uint8)
    for name, view in {
        "whole": whole,
        "crop": whole[3:9, 5:20],
        "one column": whole[:, 4:5],
        "one row": whole[4:5],
        "every second row": whole[::2],
        "every second column": whole[:, ::2],
        "mirrored": whole[:, ::-1],
        "upside down": whole[::-1],
        "transposed": whole.swapaxes(0, 1),
    }.items():
        size = (view.shape[1], view.shape[0])
        try:
            cv2.resize(np.ones((2, 2, *view.shape[2:]), np.uint8), size, dst=view)
            takes = True
        except cv2.error:
            takes = False
        assert addressable(view) == takes, name
    assert not addressable(np.broadcast_to(np.uint8(1), whole.shape))
