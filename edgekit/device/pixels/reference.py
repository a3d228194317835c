"""What the image contract gives, in plain numpy: the definition, for ports and for tests. Slow.

A picture is cropped; Y is resized to the model's size, U and V to half of it, each for 2 x 2
pixels; and there they become red, green and blue. `Preparer` differs from this by at most 1 in
99.9 % of the values, 2 anywhere; but where a mean of `area` lies in the middle of two numbers.
"""

from typing import Literal, TypeAlias

import numpy as np

from edgekit.device.picture import Picture
from edgekit.device.pixels import colour
from edgekit.device.pixels.placement import Box, placement
from edgekit.device.pixels.planes import check
from edgekit.errors import SpecError
from edgekit.spec import ImageSpec

Ties: TypeAlias = Literal["even", "up", "down"]
"""Which whole number a mean in the middle of two becomes."""


def prepare(picture: Picture, spec: ImageSpec, ties: Ties = "even") -> np.ndarray:
    """(spec.height, spec.width, 3) uint8 RGB of a picture that is no JPEG; see `from_decoded`.

    Args:
        picture: any strides.
        spec: the image contract.
        ties: of `area`; see `mean`.

    Raises:
        SpecError: `picture` is not as it must be, or a JPEG.
    """
    check(picture)
    if picture.format == "MJPEG":
        raise SpecError("decode the JPEG first; how it is decoded is not defined here")
    return _placed(picture, spec, 1, picture.planes, ties)


def from_decoded(jpeg: Picture, decoded: np.ndarray, reduction: int, spec: ImageSpec) -> np.ndarray:
    """The same of a JPEG that was decoded at a scale of 1 / `reduction`.

    Args:
        jpeg: for its size and `turns`.
        decoded: (ceil(H / reduction), ceil(W / reduction), 3) RGB.
        reduction: how many pixels became one, each way: see `jpeg.reduction`.
        spec: the image contract.
    """
    return _placed(jpeg, spec, reduction, (decoded,))


def resize(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear in whole numbers: half-pixel centres, no anti-aliasing, the edge repeated.

    Output i, of n from m samples, lies at c = float32((i + 0.5) (m / n) - 0.5): its weights are
    1 - f and f for samples floor(c) and floor(c) + 1, with f = float32(c - floor(c)), both rounded
    to 1/2048, half to even. Along a row, what lies outside of it gets the weight 0; across rows,
    samples outside are those of the edge. With S0, S1 the two rows resized along the row, and b0,
    b1 their weights, all in whole numbers and >> rounding down,

        ((b0 (S0 >> 4) >> 16) + (b1 (S1 >> 4) >> 16) + 2) >> 2

    That is OpenCV's INTER_LINEAR of uint8, bit for bit.

    Args:
        plane: (H, W, c) integers, 0 to 255.
        height: wanted.
        width: wanted.

    Returns:
        (height, width, c) int64, 0 to 255.
    """
    rows, columns, _ = plane.shape
    at, share = positions(columns, width)
    share = np.where((at < 0) | (at >= columns - 1), np.float32(0), share)
    left, right = weights(share)
    at = np.clip(at, 0, columns - 1)
    whole = plane.astype(np.int64)
    along = (
        whole[:, at] * left[:, np.newaxis]
        + whole[:, np.minimum(at + 1, columns - 1)] * right[:, np.newaxis]
    )
    at, share = positions(rows, height)
    upper, lower = (weight[:, np.newaxis, np.newaxis] for weight in weights(share))
    first = upper * (along[np.clip(at, 0, rows - 1)] >> 4) >> 16
    second = lower * (along[np.clip(at + 1, 0, rows - 1)] >> 4) >> 16
    resized: np.ndarray = (first + second + 2) >> 2
    return resized


def mean(plane: np.ndarray, height: int, width: int, ties: Ties = "even") -> np.ndarray:
    """The mean over what each wanted pixel covers, rounded to the nearest whole number.

    Along m samples, output i of n covers i m / n to (i + 1) m / n: a sample counts as far as it
    lies within. The sum is exact. Where the mean lies in the middle of two whole numbers, either is
    right: OpenCV's float arithmetic decides, mostly for the even one.

    Args:
        plane: (H, W, c) integers, 0 to 255.
        height: wanted, at most H.
        width: wanted, at most W.
        ties: what to take in the middle.

    Returns:
        (height, width, c) int64, 0 to 255.
    """
    rows, columns, _ = plane.shape
    down, across = _covered(rows, height), _covered(columns, width)
    whole = plane.astype(np.int64)
    total = np.einsum("yh,hwc,xw->yxc", down, whole, across, optimize=True)
    below, rest = np.divmod(total, rows * columns)
    middle = {"even": below % 2 == 1, "up": True, "down": False}[ties]
    nearer = 2 * rest > rows * columns
    rounded: np.ndarray = below + (nearer | ((2 * rest == rows * columns) & middle))
    return rounded


def _placed(
    picture: Picture, spec: ImageSpec, reduction: int, planes: tuple[np.ndarray, ...],
    ties: Ties = "even",
) -> np.ndarray:  # fmt: skip
    place = placement(*picture.upright_size, spec)
    height, width = place.target.height, place.target.width
    if picture.turns % 2:
        height, width = width, height
    box = place.source.turned_back(picture.width, picture.height, picture.turns)
    box = box.sampled(reduction, reduction)
    rgb = _coloured(picture, planes, box, height, width, spec.interpolation, ties)
    out = np.full((spec.height, spec.width, 3), spec.fill, np.uint8)
    place.target.of(out)[...] = np.rot90(rgb, picture.turns)
    return out


def _coloured(
    picture: Picture, planes: tuple[np.ndarray, ...], box: Box, height: int, width: int,
    interpolation: str, ties: Ties,
) -> np.ndarray:  # fmt: skip
    """The box of a picture as its memory lies, (height, width, 3)."""

    def sized(plane: np.ndarray, box: Box, height: int, width: int) -> np.ndarray:
        part = box.of(plane)
        part = part[..., np.newaxis] if part.ndim == 2 else part
        if interpolation == "area" and box.width >= width and box.height >= height:
            return mean(part, height, width, ties)
        return resize(part, height, width)

    of = picture.format
    if of in ("RGB", "BGR", "MJPEG"):
        rgb = sized(planes[0], box, height, width).astype(np.uint8)
        return rgb[..., ::-1] if of == "BGR" else rgb
    if of == "GREY":
        a, d = (int(n) for n in colour.grey_to_rgb(picture.full_range)[0])
        return np.repeat(_rounded(sized(planes[0], box, height, width) * a + d), 3, axis=2)
    y = sized(separate(picture)[0], box, height, width)
    half = box.sampled(2, 1 if of == "YUYV" else 2)
    low, narrow = (height + 1) // 2, (width + 1) // 2
    u, v = (
        sized(plane, half, low, narrow).repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
        for plane in separate(picture)[1:]
    )
    yuv1 = np.concatenate([y, u, v, np.ones_like(y)], axis=2)
    return _rounded(yuv1 @ colour.to_rgb(picture.matrix, picture.full_range).T)


def separate(picture: Picture) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Y (H, W), and U and V, each one sample for 2 x 2 pixels, of YUYV for 2 x 1; views."""
    first, *others = picture.planes
    if picture.format == "YUYV":
        pairs = first[..., ::2].reshape(picture.height, -1)[:, : picture.width]
        return pairs, first[..., 1], first[..., 3]
    if picture.format == "NV12":
        return first, others[0][..., 0], others[0][..., 1]
    return first, others[0], others[1]


def _rounded(numbers: np.ndarray) -> np.ndarray:
    """clip(floor(numbers / 65536 + 1/2)), exactly."""
    made: np.ndarray = np.clip((numbers + colour.ONE // 2) // colour.ONE, 0, 255).astype(np.uint8)
    return made


def positions(samples: int, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each wanted sample, the one before it (may be -1), and how far it is from that."""
    centres = ((np.arange(wanted) + 0.5) * (samples / wanted) - 0.5).astype(np.float32)
    before = np.floor(centres)
    return before.astype(np.int64), centres - before


def weights(share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the sample before and the one after, in 1/2048."""
    one = np.float32(2048)
    return (
        np.rint((np.float32(1) - share) * one).astype(np.int64),
        np.rint(share * one).astype(np.int64),
    )


def _covered(samples: int, wanted: int) -> np.ndarray:
    """(wanted, samples) of how much of each is covered, in 1/wanted."""
    ends = np.arange(wanted + 1) * samples
    start, stop = ends[:-1, np.newaxis], ends[1:, np.newaxis]
    at = np.arange(samples) * wanted
    shared: np.ndarray = np.minimum(stop, at + wanted) - np.maximum(start, at)
    return shared.clip(0)
