"""From a lent picture to the model's own input memory, over as few pixels as possible.

The planes are cropped by slicing and resized to the model's size as they are, and only there
become red, green and blue: the cost does not grow with the camera's resolution. `reference` says in
plain numpy what comes out; `docs/image-contract.md` says it in words.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from edgekit.device.copies import UNCOUNTED, Copies
from edgekit.device.packages import opencv
from edgekit.device.picture import Picture
from edgekit.device.pixels import colour, jpeg
from edgekit.device.pixels.placement import Box, Placement, placement
from edgekit.device.pixels.planes import check
from edgekit.device.pixels.resizing import Interpolation, Resizer
from edgekit.errors import SpecError
from edgekit.spec import ImageSpec

Planes: TypeAlias = tuple[np.ndarray, ...]
Write: TypeAlias = Callable[[Planes, np.ndarray], None]
"""Writes the box of the planes, as they lie in memory, into (height, width, 3) uint8 RGB."""


class Preparer:
    """Prepares one picture after another under one contract.

    What it needs is allocated when the first picture of a layout comes; of a picture nothing is
    kept. One thread uses it.
    """

    def __init__(self, spec: ImageSpec, copies: Copies = UNCOUNTED) -> None:
        """Keep the contract.

        Args:
            spec: the image contract.
            copies: counts the bytes written.
        """
        self._spec, self._copies = spec, copies
        self._shape = (spec.height, spec.width, 3)
        self._layout: list[object] = []
        self._way: _Way

    def __call__(self, picture: Picture, out: np.ndarray) -> Placement:
        """Write `picture` into `out`.

        Args:
            picture: any of the formats, any strides; only read. Strides that OpenCV cannot address
                (mirrored, transposed) cost a counted copy of the box.
            out: (spec.height, spec.width, 3) uint8, C-contiguous and writable: the session's own
                input memory; written in full, in RGB, kept by nobody.

        Returns:
            Which pixels of the upright picture lie where in `out`.

        Raises:
            SpecError: `picture` or `out` is not as it must be.
            ImageError: a JPEG that cannot be decoded.
            MissingPackage: OpenCV, or of a JPEG simplejpeg, is not installed.
        """
        self._check_out(out)
        layout = _layout(picture)
        if layout != self._layout:
            check(picture)
            self._way = _Way(picture, self._spec, self._copies)
            self._layout = layout
        return self._way(picture.planes, out)

    def _check_out(self, out: np.ndarray) -> None:
        if out.shape != self._shape or out.dtype != np.uint8:
            raise SpecError(
                f"the model's input must be {self._shape} uint8, got {out.shape} {out.dtype}"
            )
        if not out.flags.c_contiguous or not out.flags.writeable:
            raise SpecError("the model's input must be C-contiguous and writable")


class _Way:
    """From the planes of one layout into the input."""

    def __init__(self, picture: Picture, spec: ImageSpec, copies: Copies) -> None:
        cv2 = opencv("resizing images")
        self._place = placement(*picture.upright_size, spec)
        self._fill, self._copies = spec.fill, copies
        target, turns = self._place.target, picture.turns
        self._margins = (target.width, target.height) != (spec.width, spec.height)
        width, height = target.width, target.height
        if turns % 2:
            width, height = height, width
        box = self._place.source.turned_back(picture.width, picture.height, turns)
        self._write = _writer(picture, box, width, height, spec.interpolation, copies)
        self._rotate, self._lying = cv2.rotate, np.empty((height, width, 3), np.uint8)
        self._turn = {
            1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE
        }.get(turns)  # fmt: skip

    def __call__(self, planes: Planes, out: np.ndarray) -> Placement:
        target = self._place.target.of(out)
        if self._margins:
            out[...] = self._fill  # 150 KB at 224 x 224: cheaper than four margins done apart
            self._copies.add("input", "letterbox margins", out.nbytes)
        if self._turn is None:
            self._write(planes, target)
        else:
            self._write(planes, self._lying)
            self._rotate(self._lying, self._turn, dst=target)
            self._copies.add("input", "turn", target.nbytes)
        return self._place


class _Packed:
    """RGB and BGR: one resize straight into the input, and the order changed there."""

    def __init__(
        self, order: str, plane: np.ndarray, box: Box, width: int, height: int,
        interpolation: Interpolation, copies: Copies,
    ) -> None:  # fmt: skip
        cv2 = opencv("resizing images")
        self._resize = Resizer(plane, box, width, height, interpolation, copies)
        self._swap, self._copies = cv2.cvtColor, copies
        self._code = cv2.COLOR_BGR2RGB if order == "BGR" else None

    def __call__(self, planes: Planes, into: np.ndarray) -> None:
        self._resize(planes[0], into)
        self._copies.add("input", "resize", into.nbytes)
        if self._code is not None:
            self._swap(into, self._code, dst=into)  # in place, after the resize: 3 us at 224
            self._copies.add("input", "colour order", into.nbytes)


class _Jpeg:
    """MJPEG: decoded at the smallest scale that still has the pixels, then as RGB."""

    def __init__(
        self, picture: Picture, box: Box, width: int, height: int,
        interpolation: Interpolation, copies: Copies,
    ) -> None:  # fmt: skip
        n = jpeg.reduction(box, width, height)
        self._decode, self._copies = jpeg.Decoder(picture.width, picture.height, n), copies
        small = self._decode.pixels
        self._write = _Packed("RGB", small, box.sampled(n, n), width, height, interpolation, copies)

    def __call__(self, planes: Planes, into: np.ndarray) -> None:
        pixels = self._decode(planes[0])
        self._copies.add("frame", "decoding JPEG", pixels.nbytes)  # a JPEG has no pixels to lend
        self._write((pixels,), into)


class _Coloured:
    """YUYV, NV12 and I420: each plane resized, then one colour matrix into the input."""

    def __init__(
        self, picture: Picture, box: Box, width: int, height: int,
        interpolation: Interpolation, copies: Copies,
    ) -> None:  # fmt: skip
        cv2 = opencv("resizing images")
        self._cv2, self._copies, self._format = cv2, copies, picture.format
        half = box.sampled(2, 1 if picture.format == "YUYV" else 2)
        # Colour is made at half the model's size, as cameras have it: a quarter of the pixels.
        low, narrow = (height + 1) // 2, (width + 1) // 2
        sizes = ((box, width, height), (half, narrow, low), (half, narrow, low))
        # Rows of Y U Y V whose pixels are apart cannot be looked at as pairs where they lie.
        apart = picture.format == "YUYV" and picture.planes[0].strides[1:] != (4, 1)
        self._staged = np.empty(picture.planes[0].shape, np.uint8) if apart else None
        self._resizers = tuple(
            Resizer(plane, *size, interpolation, copies)
            for plane, size in zip(_views(picture.format, picture.planes), sizes, strict=False)
        )
        small = np.empty((2, low, narrow), np.uint8)
        large = np.empty((2, 2 * low, 2 * narrow), np.uint8)
        self._small, self._words = small, np.empty(small.shape, np.uint16)
        self._doubled: np.ndarray = large.view(np.uint16).reshape(2, low, 2, narrow)
        """U and V as they are resized, and with each for 2 x 2 pixels: two of them in a word."""
        self._u, self._v = large[:, :height, :width]
        self._into: tuple[np.ndarray | None, ...] = (None, None)
        self._split: tuple[tuple[np.ndarray, ...], ...] = ((), tuple(small))
        if picture.format == "I420":
            self._into, self._split = (None, *small), ()
        elif picture.format == "YUYV":
            pairs, unused = np.empty((2, height, width), np.uint8), np.empty_like(small)
            self._split = (tuple(pairs), (unused[0], small[0], unused[1], small[1]))
        self._yuv = np.empty((height, width, 3), np.uint8)
        self._resized = sum(resize.made.nbytes for resize in self._resizers)
        split = sum(part.nbytes for parts in self._split for part in parts)
        self._gathered = split + 2 * self._words.nbytes + large.nbytes + self._yuv.nbytes
        table = colour.to_rgb(picture.matrix, picture.full_range) / colour.ONE
        self._matrix = np.ascontiguousarray(table, np.float32)

    def __call__(self, planes: Planes, into: np.ndarray) -> None:
        if self._staged is not None:
            np.copyto(self._staged, planes[0])
            self._copies.add("frame", "unusual strides", self._staged.nbytes)
            planes = (self._staged,)
        views = _views(self._format, planes)
        made = [
            resize(view, target)
            for resize, view, target in zip(self._resizers, views, self._into, strict=True)
        ]
        self._gather(made)
        self._cv2.transform(self._yuv, self._matrix, dst=into)
        self._copies.add("input", "resize", self._resized)
        self._copies.add("input", "channels", self._gathered)
        self._copies.add("input", "colour", into.nbytes)

    def _gather(self, made: list[np.ndarray]) -> None:
        """Y, U and V of the resized planes into one image, each U and V for 2 x 2 pixels."""
        cv2, y = self._cv2, made[0]
        for packed, parts in zip(made, self._split, strict=False):
            if parts:
                cv2.split(packed, parts)
        if self._format == "YUYV":
            y = self._split[0][0]
        # n in both bytes of a word is 257 n: four times as fast as OpenCV's nearest neighbour.
        np.copyto(self._words, self._small)
        np.multiply(self._words, 257, out=self._words)
        np.copyto(self._doubled, self._words[:, :, np.newaxis])
        cv2.merge((y, self._u, self._v), dst=self._yuv)


class _Grey:
    """GREY: resized, its range widened, three times."""

    def __init__(
        self, picture: Picture, box: Box, width: int, height: int,
        interpolation: Interpolation, copies: Copies,
    ) -> None:  # fmt: skip
        self._cv2, self._copies = opencv("resizing images"), copies
        plane = picture.planes[0]
        self._resize = Resizer(plane, box, width, height, interpolation, copies)
        self._levels = colour.grey_levels(picture.full_range)

    def __call__(self, planes: Planes, into: np.ndarray) -> None:
        grey = self._resize(planes[0])
        self._copies.add("input", "resize", grey.nbytes)
        self._cv2.LUT(grey, self._levels, dst=grey)
        self._cv2.cvtColor(grey, self._cv2.COLOR_GRAY2RGB, dst=into)
        self._copies.add("input", "colour", grey.nbytes + into.nbytes)


def _writer(
    picture: Picture, box: Box, width: int, height: int, interpolation: Interpolation,
    copies: Copies,
) -> Write:  # fmt: skip
    of = picture.format
    if of == "RGB" or of == "BGR":
        return _Packed(of, picture.planes[0], box, width, height, interpolation, copies)
    way = _Jpeg if of == "MJPEG" else _Grey if of == "GREY" else _Coloured
    return way(picture, box, width, height, interpolation, copies)


def _views(of: str, planes: Planes) -> Planes:
    """The planes as they are resized: of YUYV twice the same, as Y and any, and as Y U Y V."""
    if of != "YUYV":
        return planes
    packed = planes[0]
    rows, columns, _ = packed.shape
    pairs = packed.reshape(rows, 2 * columns, 2)
    return pairs, packed


def _layout(picture: Picture) -> list[object]:
    """All that the way of a picture depends on, but for its pixels.

    A list, as Python keeps up to 2,000 of the tuples that are made from a generator.
    """
    made: list[object] = [
        picture.format, picture.width, picture.height, picture.matrix, picture.full_range,
        picture.turns,
    ]  # fmt: skip
    if picture.format != "MJPEG":
        for plane in picture.planes:
            made += plane.shape, plane.strides, plane.dtype
    return made
