"""Decoded frames as pictures: the decoder's planes where they can be lent, else a counted copy."""

from typing import Any

import av
import numpy as np
import pytest

from edgekit.device.cameras._video import picture
from edgekit.device.copies import Copies
from edgekit.device.picture import Picture

COLOUR = np.full((48, 66, 3), (200, 40, 60), np.uint8)


def decoded(pixel_format: str, colorspace: int = 5, full: bool = False) -> av.VideoFrame:
    """COLOUR in that format; colorspace is swscale's: 1 BT.709, 5 BT.601, 9 BT.2020."""
    frame = av.VideoFrame.from_ndarray(COLOUR, format="rgb24")
    return frame.reformat(
        format=pixel_format,
        src_colorspace=5,
        dst_colorspace=colorspace,
        src_color_range=2,
        dst_color_range=2 if full else 1,
    )


def colour(lent: Picture) -> Any:
    """The one colour of a picture, by the definition of its matrix and range: (3,) RGB."""
    means = [plane.mean((0, 1)) for plane in lent.planes]
    if lent.format in ("RGB", "BGR"):
        return means[0][:: 1 if lent.format == "RGB" else -1]
    if lent.format == "GREY":
        return np.full(3, means[0])
    flat = np.hstack(means)
    y, u, v = flat if lent.format != "YUYV" else (flat[0], flat[1], flat[3])
    kr, kb = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}[lent.matrix]
    y, u, v = (y, u - 128, v - 128) if lent.full_range else (
        (y - 16) * 255 / 219, (u - 128) * 255 / 224, (v - 128) * 255 / 224
    )  # fmt: skip
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    return np.array([red, (y - kr * red - kb * blue) / (1 - kr - kb), blue])


@pytest.mark.parametrize(
    ("pixel_format", "lent_as"),
    [
        ("yuv420p", "I420"),
        ("yuvj420p", "I420"),
        ("yuva420p", "I420"),
        ("nv12", "NV12"),
        ("yuyv422", "YUYV"),
        ("rgb24", "RGB"),
        ("bgr24", "BGR"),
    ],
)
@pytest.mark.parametrize("colorspace", [1, 5])
def test_planes_are_lent(pixel_format: str, lent_as: str, colorspace: int) -> None:
    frame, copies = decoded(pixel_format, colorspace, "j" in pixel_format), Copies()
    lent = picture(frame, copies)
    assert (lent.format, lent.width, lent.height) == (lent_as, 66, 48)
    if pixel_format.startswith(("yuv", "nv")):
        assert lent.matrix == ("bt709" if colorspace == 1 else "bt601")
        assert lent.full_range is ("j" in pixel_format)
    assert np.abs(colour(lent) - (200, 40, 60)).max() < 3
    assert copies.by_reason == {}
    for plane, of in zip(lent.planes, frame.planes, strict=False):
        assert np.shares_memory(plane, np.frombuffer(memoryview(of), np.uint8))
        assert plane.strides[0] == of.line_size > plane.shape[1]  # rows are padded


@pytest.mark.parametrize(
    ("pixel_format", "made"),
    [
        ("yuv422p", "YUYV"),
        ("uyvy422", "YUYV"),
        ("yuv444p", "I420"),
        ("yuv420p10le", "I420"),
        ("nv21", "I420"),
        ("rgba", "RGB"),
        ("gbrp", "RGB"),
        ("rgb48le", "RGB"),
    ],
)
@pytest.mark.parametrize("full", [False, True])
def test_what_cannot_be_lent_is_converted_and_counted(
    pixel_format: str, made: str, full: bool
) -> None:
    copies = Copies()
    lent = picture(decoded(pixel_format, full=full), copies)
    assert lent.format == made
    assert np.abs(colour(lent) - (200, 40, 60)).max() < 4
    ((kind, why),) = copies.by_reason
    assert kind == "frame"
    assert pixel_format in why
    assert copies.total("frame") >= sum(plane.size for plane in lent.planes)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le", "yuyv422"])
def test_bt2020_is_converted_by_its_own_matrix(pixel_format: str) -> None:
    copies = Copies()
    lent = picture(decoded(pixel_format, colorspace=9), copies)
    assert lent.format == "RGB"
    assert np.abs(colour(lent) - (200, 40, 60)).max() < 4
    assert copies.total("frame") > 0


@pytest.mark.parametrize("pixel_format", ["gray", "gray10le", "ya8"])
def test_grey(pixel_format: str) -> None:
    frame = av.VideoFrame.from_ndarray(np.full((48, 66), 90, np.uint8), format="gray")
    frame = frame.reformat(format=pixel_format)
    lent = picture(frame, Copies())
    assert (lent.format, lent.full_range) == ("GREY", True)
    assert lent.planes[0].mean() == 90


def test_odd_sizes() -> None:
    for pixel_format, chroma in (("yuv420p", (24, 33)), ("nv12", (24, 33, 2))):
        lent = picture(av.VideoFrame(65, 47, pixel_format), Copies())
        assert lent.planes[0].shape == (47, 65)
        assert all(plane.shape == chroma for plane in lent.planes[1:])
    assert picture(av.VideoFrame(65, 47, "yuyv422"), Copies()).planes[0].shape == (47, 33, 4)


def test_the_matrix_of_untagged_video_is_implied_by_its_lines() -> None:
    matrices = [picture(av.VideoFrame(64, n), Copies()).matrix for n in (480, 719, 720, 1080)]
    assert matrices == ["bt601", "bt601", "bt709", "bt709"]


def test_planes_outlive_the_frame_that_lends_them() -> None:
    lent = picture(decoded("yuv420p"), Copies())
    for _ in range(50):
        decoded("yuv420p").planes[0].update(bytes(decoded("yuv420p").planes[0].buffer_size))
    assert np.abs(colour(lent) - (200, 40, 60)).max() < 3
