"""The image contract against a reference that is written out in numpy."""

import dataclasses
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgekit.device.copies import Copies
from edgekit.device.image import (
    Order,
    full_bgr,
    list_images,
    placement,
    prepare,
    read_image,
)
from edgekit.device.picture import Picture, PixelFormat, layout
from edgekit.device.pixels import reference as device_reference
from edgekit.errors import ImageError, MissingPackage, SpecError
from edgekit.spec import ImageSpec

sides = st.integers(1, 60)
specs = st.builds(
    ImageSpec,
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    fit=st.sampled_from(["crop", "stretch", "letterbox"]),
    crop_fraction=st.floats(0.05, 1.0),
    interpolation=st.sampled_from(["bilinear", "area"]),
    fill=st.integers(0, 255),
)


def bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Half-pixel centres, edges repeated; float64."""
    for axis, size in ((0, height), (1, width)):
        n = image.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
        low = np.floor(at).astype(int)
        share = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        high = np.minimum(low + 1, n - 1)
        image = image.take(low, axis) * (1 - share) + image.take(high, axis) * share
    return image


def area(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Mean over the covered pixels, those at the edge by their share; float64."""
    for axis, size in ((0, height), (1, width)):
        n = image.shape[axis]
        edges = np.arange(size + 1) * n / size
        cover = np.minimum(np.arange(1, n + 1)[None], edges[1:, None]) - np.maximum(
            np.arange(n)[None], edges[:-1, None]
        )
        weights = np.clip(cover, 0, None) * size / n
        image = np.moveaxis(np.tensordot(weights, image, (1, axis)), 0, axis)
    return image


def reference(rgb: np.ndarray, spec: ImageSpec) -> np.ndarray:
    place = placement(rgb.shape[1], rgb.shape[0], spec)
    box = place.source.of(rgb).astype(np.float64)
    h, w = place.target.height, place.target.width
    shrinks = box.shape[0] >= h and box.shape[1] >= w
    resize = area if spec.interpolation == "area" and shrinks else bilinear
    out = np.full((spec.height, spec.width, 3), float(spec.fill))
    place.target.of(out)[...] = resize(box, h, w)
    return out


@given(sides, sides, specs, st.sampled_from(["RGB", "BGR"]), st.integers(0, 99))
@example(1, 60, ImageSpec(5, 5), "BGR", 0)
@example(60, 1, ImageSpec(5, 5, fit="letterbox", interpolation="area"), "RGB", 0)
def test_prepare_is_the_reference_within_one(
    height: int, width: int, spec: ImageSpec, order: Order, seed: int
) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    out = np.full((spec.height, spec.width, 3), 77, np.uint8)
    lent = rgb if order == "RGB" else np.ascontiguousarray(rgb[..., ::-1])
    before = lent.copy()
    prepare(lent, order, spec, out)
    assert np.abs(out - reference(rgb, spec)).max() <= 1.0 + 1e-9
    np.testing.assert_array_equal(lent, before)


@pytest.mark.parametrize(
    "turn",
    [
        lambda a: a[:, ::-1],
        lambda a: a[::-1],
        lambda a: a[..., ::-1],
        lambda a: a.transpose(1, 0, 2),
        lambda a: a[::2, ::3],
        lambda a: np.broadcast_to(a[:, :1], a.shape),
    ],
    ids=["mirrored", "upside down", "channels", "transposed", "strided", "broadcast"],
)
def test_unusual_strides_give_the_same_pixels_and_are_counted(
    turn: Callable[[np.ndarray], np.ndarray],
) -> None:
    image = turn(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8))
    spec = ImageSpec(7, 9, crop_fraction=1.0)
    box = placement(image.shape[1], image.shape[0], spec).source
    copies, odd, plain = Copies(), np.zeros((7, 9, 3), np.uint8), np.zeros((7, 9, 3), np.uint8)
    prepare(image, "RGB", spec, odd, copies)
    prepare(np.ascontiguousarray(image), "RGB", spec, plain)
    np.testing.assert_array_equal(odd, plain)
    assert copies.total("frame") == box.width * box.height * 3


def test_a_crop_of_a_larger_frame_is_not_copied() -> None:
    copies = Copies()
    frame = np.zeros((40, 60, 3), np.uint8)[5:35, 10:50]
    prepare(frame, "BGR", ImageSpec(8, 8), np.zeros((8, 8, 3), np.uint8), copies)
    assert copies.by_reason == {("input", "resize"): 192, ("input", "colour order"): 192}


def test_the_count_is_what_opencv_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call that writes pixels is watched, and what it wrote adds up to the counter's sum."""
    wrote: list[int] = []

    def watched(real: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        def call(*arguments: Any, **options: Any) -> np.ndarray:
            result: np.ndarray = real(*arguments, **options)
            target: np.ndarray = options["dst"]
            assert result is target, "OpenCV made memory of its own"
            wrote.append(result.nbytes)
            return result

        return call

    for name in ("resize", "cvtColor"):
        monkeypatch.setattr(cv2, name, watched(getattr(cv2, name)))
    for refused in ("ascontiguousarray", "copyto"):
        monkeypatch.setattr(np, refused, None)
    copies = Copies()
    out = np.zeros((1, 24, 24, 3), np.uint8)[0]
    prepare(np.zeros((72, 128, 3), np.uint8), "BGR", ImageSpec(24, 24), out, copies)
    assert sum(wrote) == copies.total("input") == 2 * out.nbytes
    assert copies.total("frame") == 0


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4), np.uint8), r"\(4, 4\) uint8"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
    ],
)
def test_pixels_that_do_not_fit(pixels: np.ndarray, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        prepare(pixels, "RGB", ImageSpec(4, 4), np.zeros((4, 4, 3), np.uint8))


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.zeros((4, 5, 3), np.uint8), r"must be \(4, 4, 3\) uint8, got \(4, 5, 3\)"),
        (np.zeros((4, 4, 3), np.int8), "int8"),
        (np.zeros((4, 8, 3), np.uint8)[:, ::2], "C-contiguous"),
        (np.broadcast_to(np.uint8(0), (4, 4, 3)), "C-contiguous and writable"),
    ],
)
def test_an_input_that_does_not_fit(out: np.ndarray, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        prepare(np.zeros((4, 4, 3), np.uint8), "RGB", ImageSpec(4, 4), out)


def test_an_unknown_order() -> None:
    order: Any = "GBR"
    with pytest.raises(SpecError, match="'RGB' or 'BGR', got 'GBR'"):
        prepare(
            np.zeros((4, 4, 3), np.uint8), order, ImageSpec(4, 4), np.zeros((4, 4, 3), np.uint8)
        )


@pytest.mark.parametrize("of", ["RGB", "BGR", "GREY", "YUYV", "NV12", "I420"])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_full_bgr_is_the_whole_picture_upright(of: PixelFormat, turns: int) -> None:
    made = layout(of, 41, 30, matrix="bt709", full_range=of == "YUYV")
    memory = np.random.default_rng(0).integers(0, 256, made.nbytes, np.uint8)
    picture = dataclasses.replace(made.over(memory), turns=turns)
    whole = full_bgr(picture)
    width, height = picture.upright_size
    expected = device_reference.prepare(picture, ImageSpec(height, width, fit="stretch"))
    assert np.abs(whole[..., ::-1].astype(int) - expected).max() <= 1
    assert whole.flags.c_contiguous
    assert not any(np.shares_memory(whole, plane) for plane in picture.planes)


def test_full_bgr_of_a_jpeg() -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20] = (200, 100, 50)
    data = np.frombuffer(cv2.imencode(".jpg", pixels)[1].tobytes(), np.uint8)
    whole = full_bgr(Picture("MJPEG", 40, 20, (data,), turns=1))
    assert np.abs(whole.astype(int) - np.rot90(pixels)).mean() < 6
    with pytest.raises(ImageError, match="cannot decode a JPEG"):
        full_bgr(Picture("MJPEG", 40, 20, (data[:300],)))


def test_opencv_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingPackage, match=r"opencv-python-headless.*edgekit\[camera\]"):
        read_image(Path("cat.jpg"))


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (np.full((2, 3), 90, np.uint8), (90, 90, 90)),
        (np.full((2, 3, 3), (10, 20, 30), np.uint8), (30, 20, 10)),
        (np.full((2, 3, 4), (10, 20, 30, 0), np.uint8), (30, 20, 10)),
        (np.full((2, 3), 90 * 257, np.uint16), (90, 90, 90)),
    ],
    ids=["grey", "BGR", "BGRA", "16 bit"],
)
def test_read_image_gives_rgb(
    tmp_path: Path, stored: np.ndarray, expected: tuple[int, int, int]
) -> None:
    path = tmp_path / "Bild ä.png"
    path.write_bytes(cv2.imencode(".png", stored)[1].tobytes())
    image = read_image(path)
    assert image.flags.c_contiguous
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.broadcast_to(np.array(expected, np.uint8), (2, 3, 3)))


def test_read_image_applies_the_orientation(tmp_path: Path) -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20] = 255  # bright on the left
    jpeg = cv2.imencode(".jpg", pixels)[1].tobytes()
    # One EXIF entry: orientation (0x0112), short, 6: turn by 90 degrees to the right.
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    segment = b"Exif\0\0" + tiff
    path = tmp_path / "turned.jpg"
    path.write_bytes(
        jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]
    )
    image = read_image(path)
    assert image.shape == (40, 20, 3)
    assert image[:18].min() > 200  # the left side came to the top
    assert image[22:].max() < 50


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"no image at all"])
def test_what_is_no_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="is not an image"):
        read_image(path)


def test_a_jpeg_that_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)
    path.write_bytes(cv2.imencode(".jpg", noise)[1].tobytes()[:1000])
    with pytest.raises(ImageError, match="cut short"):
        read_image(path)


def test_an_image_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="Is a directory"):
        read_image(tmp_path)


def test_list_images(photo: Callable[[str, str], Path], tmp_path: Path) -> None:
    made = [photo(name, "red") for name in ("b.PNG", "a/c.png", "a.png")]
    photo(".hidden/x.png", "red")
    photo("a/._c.png", "red")
    (tmp_path / "notes.txt").write_text("")
    assert list_images(tmp_path) == tuple(sorted(made))


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no images in"):
        list_images(tmp_path)
    with pytest.raises(ImageError, match="no folder"):
        list_images(tmp_path / "none")
