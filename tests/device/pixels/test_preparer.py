"""The fast way from a picture to the input, held to the definition."""

import dataclasses
import gc
import hashlib
import itertools
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any, get_args

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgekit.device.copies import Copies
from edgekit.device.picture import Matrix, Picture, PixelFormat, bgr, layout, rgb
from edgekit.device.pixels import reference
from edgekit.device.pixels.jpeg import Decoder, reduction
from edgekit.device.pixels.placement import placement
from edgekit.device.pixels.preparer import Preparer
from edgekit.errors import ImageError, SpecError
from edgekit.spec import ImageSpec

RAW: tuple[PixelFormat, ...] = ("RGB", "BGR", "GREY", "YUYV", "NV12", "I420")
sides = st.integers(1, 300)
specs = st.builds(
    ImageSpec,
    height=st.integers(1, 64),
    width=st.integers(1, 64),
    fit=st.sampled_from(["crop", "stretch", "letterbox"]),
    crop_fraction=st.floats(0.05, 1.0),
    interpolation=st.sampled_from(["bilinear", "area"]),
    fill=st.integers(0, 255),
)


def picture(
    of: PixelFormat, width: int, height: int, padding: int = 0, seed: int = 0, **options: Any
) -> Picture:
    """Noise: the pixels differ from their neighbours as much as they can."""
    turns = options.pop("turns", 0)
    rows = layout(of, width, height).planes[0][2][0] + padding
    made = layout(of, width, height, rows, **options)
    memory = np.random.default_rng(seed).integers(0, 256, made.nbytes, np.uint8)
    return dataclasses.replace(made.over(memory), turns=turns)


def prepared(given_: Picture, spec: ImageSpec, copies: Copies | None = None) -> np.ndarray:
    out = np.full((spec.height, spec.width, 3), 77, np.uint8)
    Preparer(spec, copies or Copies())(given_, out)
    return out


def ties(given_: Picture, spec: ImageSpec) -> np.ndarray:
    """Where a mean lies in the middle of two whole numbers, and either may be taken."""
    up, down = (reference.prepare(given_, spec, way) for way in ("up", "down"))
    where: np.ndarray = up != down
    return where


def assert_close(made: np.ndarray, expected: np.ndarray, either: np.ndarray) -> None:
    """At most 1 in 99.9 % of the values, 2 anywhere; of a few values, one may differ by 2.

    Where `either` number is right, the colour matrix makes up to 5 of 1 in Y, U and V.
    """
    apart = np.abs(made.astype(int) - expected)
    assert apart.max() <= 5
    apart[either] = 0
    assert apart.max() <= 2
    assert (apart > 1).sum() <= max(1, apart.size // 1000)


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(RAW),
    sides,
    sides,
    specs,
    st.integers(0, 70),
    st.sampled_from(get_args(Matrix)),
    st.booleans(),
    st.integers(0, 3),
    st.integers(0, 99),
)
@example("NV12", 128, 64, ImageSpec(32, 64, fit="stretch"), 0, "bt709", False, 0, 0)
@example("NV12", 256, 128, ImageSpec(32, 64, fit="stretch"), 0, "bt601", False, 0, 0)
@example("NV12", 256, 128, ImageSpec(64, 32, fit="stretch"), 0, "bt601", False, 1, 0)
@example("YUYV", 128, 64, ImageSpec(32, 64, fit="stretch"), 0, "bt601", True, 2, 0)
@example("I420", 99, 77, ImageSpec(38, 49, interpolation="area"), 5, "bt709", False, 3, 0)
@example("YUYV", 1, 1, ImageSpec(5, 5), 0, "bt601", False, 0, 0)
@example("NV12", 64, 48, ImageSpec(36, 48, interpolation="area"), 0, "bt601", False, 0, 0)
def test_it_is_the_reference(
    of: PixelFormat, width: int, height: int, spec: ImageSpec, padding: int, matrix: Matrix,
    full_range: bool, turns: int, seed: int,
) -> None:  # fmt: skip
    given_ = picture(
        of, width, height, padding, seed, matrix=matrix, full_range=full_range, turns=turns
    )
    before = [plane.copy() for plane in given_.planes]
    made = prepared(given_, spec)
    assert_close(made, reference.prepare(given_, spec), ties(given_, spec))
    for plane, was in zip(given_.planes, before, strict=True):
        np.testing.assert_array_equal(plane, was)


# As x86-64 and aarch64 (OpenCV 5.0's wheels) both make them.
BYTES = {
    "RGB": "f5501ba042d4a843",
    "BGR": "9388fc04cadf354a",
    "GREY": "74fae08e40e5486a",
    "YUYV": "fdcea772ff326ca8",
    "NV12": "e9ead956a2e5288d",
    "I420": "e1188c043ca722bc",
}


@pytest.mark.parametrize("of", RAW)
def test_bilinear_is_the_same_bytes_everywhere(of: PixelFormat) -> None:
    digest = hashlib.sha256()
    for matrix, full_range, turns in itertools.product(get_args(Matrix), (False, True), range(4)):
        given_ = picture(of, 321, 243, 7, matrix=matrix, full_range=full_range, turns=turns)
        digest.update(prepared(given_, ImageSpec(96, 80)).tobytes())
    assert digest.hexdigest()[:16] == BYTES[of]


@pytest.mark.parametrize("interpolation", ["bilinear", "area"])
@pytest.mark.parametrize("of", RAW)
def test_a_camera_picture_is_the_reference(of: PixelFormat, interpolation: Any) -> None:
    given_ = picture(of, 1280, 720, 64, matrix="bt709")
    spec = ImageSpec(224, 224, interpolation=interpolation)
    assert_close(prepared(given_, spec), reference.prepare(given_, spec), ties(given_, spec))


TURNED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mirrored": lambda a: a[:, ::-1],
    "upside down": lambda a: a[::-1],
    "every second row": lambda a: a[::2],
    "every second column": lambda a: a[:, ::2],
    "transposed": lambda a: a.swapaxes(0, 1),
    "broadcast": lambda a: np.broadcast_to(a[:, :1], a.shape),
}


@pytest.mark.parametrize("interpolation", ["bilinear", "area"])
@pytest.mark.parametrize("turn", TURNED.values(), ids=TURNED)
@pytest.mark.parametrize("of", RAW)
def test_any_strides(
    of: PixelFormat, turn: Callable[[np.ndarray], np.ndarray], interpolation: Any
) -> None:
    """As the same planes, copied so that they are contiguous."""
    planes = tuple(turn(plane) for plane in picture(of, 80, 80).planes)
    height, width = planes[0].shape[:2]
    odd = Picture(of, 2 * width if of == "YUYV" else width, height, planes)
    plain = dataclasses.replace(odd, planes=tuple(np.ascontiguousarray(p) for p in planes))
    spec = ImageSpec(9, 11, interpolation=interpolation)
    np.testing.assert_array_equal(prepared(odd, spec), prepared(plain, spec))


@pytest.mark.parametrize("of", RAW)
def test_only_what_opencv_cannot_address_is_copied_as_a_frame(of: PixelFormat) -> None:
    plain, mirrored = Copies(), Copies()
    given_ = picture(of, 80, 60, padding=20)
    prepared(given_, ImageSpec(9, 11), plain)
    assert plain.total("frame") == 0
    planes = tuple(plane[:, ::-1] for plane in given_.planes)
    prepared(dataclasses.replace(given_, planes=planes), ImageSpec(9, 11), mirrored)
    assert {why for kind, why in mirrored.by_reason if kind == "frame"} == {"unusual strides"}


@pytest.mark.parametrize("of", RAW)
def test_area_copies_no_frame_either(of: PixelFormat) -> None:
    copies = Copies()
    prepared(picture(of, 80, 60), ImageSpec(9, 9, interpolation="area"), copies)
    assert copies.total("frame") == 0


@pytest.mark.parametrize("turns", [0, 1])
@pytest.mark.parametrize("of", RAW)
def test_the_count_is_what_opencv_wrote(
    of: PixelFormat, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call that writes pixels is watched, and what it wrote adds up to the counter's sum."""
    wrote: list[int] = []

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            result = real(*arguments, **options)
            assert result is options["dst"], "OpenCV made memory of its own"
            wrote.append(result.nbytes)
            return result

        return call

    def watched_multiply(*arguments: Any, **options: Any) -> Any:
        wrote.append(options["out"].nbytes)
        return multiply(*arguments, **options)

    def watched_copyto(target: np.ndarray, source: np.ndarray) -> None:
        wrote.append(target.nbytes)
        copyto(target, source)

    def watched_split(image: np.ndarray, planes: tuple[np.ndarray, ...]) -> Any:
        result = split(image, planes)
        assert all(made is plane for made, plane in zip(result, planes, strict=True))
        wrote.append(sum(plane.nbytes for plane in planes))
        return result

    split, multiply, copyto = cv2.split, np.multiply, np.copyto
    for name in ("resize", "cvtColor", "LUT", "merge", "transform", "rotate"):
        monkeypatch.setattr(cv2, name, watched(getattr(cv2, name)))
    monkeypatch.setattr(cv2, "split", watched_split)
    copies = Copies()
    prepare, out = Preparer(ImageSpec(24, 24), copies), np.empty((24, 24, 3), np.uint8)
    given_ = picture(of, 128, 72, turns=turns)
    prepare(given_, out)
    wrote.clear()
    copies.by_reason.clear()
    for refused in ("ascontiguousarray", "empty"):
        monkeypatch.setattr(np, refused, None)
    monkeypatch.setattr(np, "multiply", watched_multiply)
    monkeypatch.setattr(np, "copyto", watched_copyto)
    prepare(given_, out)
    assert sum(wrote) == copies.total("input")
    assert copies.total("frame") == 0


def test_one_preparer_takes_one_layout_after_another() -> None:
    spec = ImageSpec(16, 16, fit="letterbox")
    prepare, out = Preparer(spec), np.empty((16, 16, 3), np.uint8)
    for given_ in [
        picture("NV12", 64, 48),
        picture("NV12", 64, 48, seed=1),
        picture("NV12", 48, 64),
        picture("NV12", 48, 64, padding=8),
        picture("NV12", 48, 64, matrix="bt709"),
        picture("NV12", 48, 64, full_range=True),
        picture("NV12", 48, 64, turns=1),
        picture("GREY", 48, 64),
        picture("RGB", 48, 64),
        picture("BGR", 48, 64),
    ]:
        place = prepare(given_, out)
        np.testing.assert_array_equal(out, prepared(given_, spec))
        assert place == placement(*given_.upright_size, spec)


@pytest.mark.parametrize("of", [*RAW, "MJPEG"])
def test_nothing_of_a_picture_is_kept(of: PixelFormat) -> None:
    class Lent(np.ndarray):
        """Can be watched."""

    plain = jpeg_picture(40, 30) if of == "MJPEG" else picture(of, 40, 30)
    planes = tuple(plane.copy().view(Lent) for plane in plain.planes)
    watched = [weakref.ref(plane) for plane in planes]
    given_ = dataclasses.replace(plain, planes=planes)
    prepare, out = Preparer(ImageSpec(8, 8)), np.empty((8, 8, 3), np.uint8)
    prepare(given_, out)
    del planes, given_
    gc.collect()
    assert not any(reference_() for reference_ in watched)


@pytest.mark.parametrize("interpolation", ["bilinear", "area"])
@pytest.mark.parametrize("of", [*RAW, "MJPEG"])
def test_nothing_is_allocated_once_warm(of: PixelFormat, interpolation: Any) -> None:
    """Not even for the time of a call: what a frame needs beyond Python's own is under 4 KB."""
    given_ = jpeg_picture(320, 240) if of == "MJPEG" else picture(of, 320, 240, turns=1)
    spec = ImageSpec(64, 64, interpolation=interpolation)
    prepare, out = Preparer(spec, Copies()), np.empty((64, 64, 3), np.uint8)
    tracemalloc.start()
    try:
        for _ in range(30):
            prepare(given_, out)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for _ in range(50):
            prepare(given_, out)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2048
    assert peak - before < 4096


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
    prepare = Preparer(ImageSpec(4, 4))
    prepare(picture("NV12", 8, 8), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(SpecError, match=message):
        prepare(picture("NV12", 8, 8), out)


def test_a_picture_that_does_not_fit_after_one_that_did() -> None:
    prepare, out = Preparer(ImageSpec(4, 4)), np.zeros((4, 4, 3), np.uint8)
    good = picture("NV12", 8, 8)
    prepare(good, out)
    y, uv = good.planes
    for planes in ((y,), (y, uv[:3]), (y[:, :7], uv), (y.view(np.int8), uv)):
        with pytest.raises(SpecError):
            prepare(dataclasses.replace(good, planes=planes), out)
    prepare(good, out)


# JPEGs


def jpeg_picture(width: int, height: int, turns: int = 0) -> Picture:
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([255 * x / width, 255 * y / height, 128 + 100 * np.sin(x / 9)], axis=2)
    data = cv2.imencode(".jpg", pixels.astype(np.uint8))[1].tobytes()
    lent = np.frombuffer(data, np.uint8)
    return Picture("MJPEG", width, height, (lent,), full_range=True, turns=turns)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 500), st.integers(1, 500), specs, st.integers(0, 3))
@example(500, 500, ImageSpec(40, 50), 1)
def test_a_jpeg_is_the_reference_of_what_was_decoded(
    width: int, height: int, spec: ImageSpec, turns: int
) -> None:
    given_ = jpeg_picture(width, height, turns)
    place = placement(*given_.upright_size, spec)
    box = place.source.turned_back(width, height, turns)
    size = (place.target.width, place.target.height)
    n = reduction(box, *(size[::-1] if turns % 2 else size))
    decoded = Decoder(width, height, n)(given_.planes[0])
    expected = reference.from_decoded(given_, decoded, n, spec)
    assert_close(prepared(given_, spec), expected, np.zeros(expected.shape, bool))


@pytest.mark.parametrize(("width", "height", "n"), [(640, 480, 2), (800, 800, 4), (1920, 1440, 8)])
def test_a_scaled_jpeg_is_near_the_mean_of_the_whole_one(width: int, height: int, n: int) -> None:
    """Which it is made like, and not like the bilinear pick among the pixels of the whole."""
    given_ = jpeg_picture(width, height)
    spec = ImageSpec(160, 160, crop_fraction=1.0)
    assert reduction(placement(width, height, spec).source, 160, 160) == n
    whole = Decoder(width, height, 1)(given_.planes[0])
    mean = dataclasses.replace(spec, interpolation="area")
    apart = np.abs(prepared(given_, spec) - reference.prepare(rgb(whole), mean).astype(int))
    assert apart.mean() < 2
    assert apart.max() < 20


def test_a_broken_jpeg_between_two() -> None:
    good = jpeg_picture(64, 48)
    prepare, out = Preparer(ImageSpec(16, 16)), np.zeros((16, 16, 3), np.uint8)
    prepare(good, out)
    expected = out.copy()
    for data in (good.planes[0][:100], good.planes[0][:0]):
        with pytest.raises(ImageError):
            prepare(dataclasses.replace(good, planes=(data,)), out)
    prepare(good, out)
    np.testing.assert_array_equal(out, expected)


def test_rgb_and_bgr_are_the_same_picture() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    spec = ImageSpec(20, 20, fit="letterbox")
    swapped = np.ascontiguousarray(pixels[..., ::-1])
    np.testing.assert_array_equal(prepared(rgb(pixels), spec), prepared(bgr(swapped), spec))
