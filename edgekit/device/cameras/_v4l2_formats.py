"""Which of a camera's formats, sizes and rates to take, and what the driver then really gives."""

import errno
import fcntl
import math
from collections.abc import Iterator
from dataclasses import dataclass

from edgekit.device.cameras import _v4l2_abi as abi
from edgekit.device.cameras._v4l2_device import Identity, busy
from edgekit.device.picture import Layout, Matrix, PixelFormat, layout
from edgekit.errors import SourceUnavailable, SpecError

# <linux/videodev2.h>, enum v4l2_colorspace, v4l2_ycbcr_encoding, v4l2_quantization.
_COLORSPACE_REC709, _COLORSPACE_JPEG, _COLORSPACE_RAW, _COLORSPACE_DCI_P3 = 3, 7, 11, 12
_ENCODING_709, _ENCODING_XV709 = 2, 4
_FULL_RANGE = 1

_RATE_SLACK = 0.95  # 29.97 is 30
_MOST_ENTRIES = 256  # a driver that never ends its lists


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of a camera."""

    width: int
    height: int
    fps: float
    format: PixelFormat | None
    """None: whichever costs least."""


@dataclass(frozen=True, slots=True)
class Mode:
    """One thing that a camera can do."""

    fourcc: int
    width: int
    height: int
    fps: float

    @property
    def format(self) -> PixelFormat:
        return abi.FORMATS[self.fourcc]

    def __str__(self) -> str:
        return f"{self.format} {self.width}x{self.height} at {self.fps:g}/s"


@dataclass(frozen=True, slots=True)
class Agreed:
    """What the driver answered."""

    layout: Layout
    fps: float
    """0: it does not say."""
    least_bytes: int
    """A shorter frame is not whole."""


def choose(modes: list[Mode], wish: Wish) -> Mode:
    """The mode of least cost that is as large and as fast as wished.

    In this order: it has colour; it covers the size wished for; it reaches the rate; it needs no
    decoding (JPEG); it has the fewest pixels; it comes first in `abi.FORMATS`. Where none covers
    the size, the largest is taken, and where none reaches the rate, the fastest.
    """
    ranks = list(abi.FORMATS)

    def cost(mode: Mode) -> tuple[float, ...]:
        covers = mode.width >= wish.width and mode.height >= wish.height
        fast = mode.fps >= wish.fps * _RATE_SLACK
        pixels = mode.width * mode.height
        return (
            mode.format == "GREY",
            not covers,
            0 if covers else -pixels,
            not fast,
            0 if fast else -mode.fps,
            mode.format == "MJPEG",
            pixels,
            ranks.index(mode.fourcc),
            mode.fps,
        )

    return min(modes, key=cost)


def modes(fd: int, identity: Identity, wish: Wish) -> list[Mode]:
    """What the camera can do, of what `wish` leaves open.

    Raises:
        SourceUnavailable: nothing that we can read, or not the format wished for.
    """
    codes = list(_formats(fd, identity.buffer_type))
    usable = [
        code for code in codes if code in abi.FORMATS and wish.format in (None, abi.FORMATS[code])
    ]
    if not usable:
        raise SourceUnavailable(_useless(codes, identity, wish))
    return [
        Mode(code, width, height, fps)
        for code in usable
        for width, height in _sizes(fd, code, wish)
        for fps in _rates(fd, code, width, height, wish)
    ]


def agree(fd: int, identity: Identity, mode: Mode) -> Agreed:
    """Ask for `mode`; what the driver answers is what counts.

    Raises:
        SourceUnavailable: the camera is busy, or answers with what we cannot read.
    """
    try:
        answer = _set_format(fd, identity.buffer_type, mode)
        fps = _set_rate(fd, identity.buffer_type, mode.fps)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise busy(identity.path) from error
        raise SourceUnavailable(
            f"the camera {identity.path} refuses {mode}: {error.strerror}; give another width=, "
            f"height=, fps= or format="
        ) from error
    width, height, code, stride, nbytes, colorspace, encoding, quantization = answer
    if code not in abi.FORMATS:
        raise SourceUnavailable(
            f"the camera {identity.path} was asked for {mode} and gives {abi.code_of(code)}, which "
            f"cannot be read; give format= one of {', '.join(_names())}"
        )
    matrix, full_range = colour(abi.FORMATS[code], colorspace, encoding, quantization)
    of = abi.FORMATS[code]
    try:
        # V4L2's stride of a JPEG means nothing.
        agreed = layout(
            of, width, height, 0 if of == "MJPEG" else stride,
            nbytes=nbytes, matrix=matrix, full_range=full_range,
        )  # fmt: skip
    except SpecError as error:
        raise SourceUnavailable(
            f"the camera {identity.path} answers {of} {width}x{height} with {stride} bytes a row "
            f"and {nbytes} a frame, which cannot be: {error}; give another format="
        ) from error
    return Agreed(agreed, fps, _least_bytes(agreed))


def colour(
    of: PixelFormat, colorspace: int, encoding: int, quantization: int
) -> tuple[Matrix, bool]:
    """How Y, U and V make colour, as `V4L2_MAP_YCBCR_ENC_DEFAULT` and its like in the kernel say.

    Returns:
        The matrix, and whether black is 0 and white 255.
    """
    if of == "MJPEG":
        return "bt601", True
    if not encoding and colorspace in (_COLORSPACE_REC709, _COLORSPACE_DCI_P3):
        encoding = _ENCODING_709
    matrix: Matrix = "bt709" if encoding in (_ENCODING_709, _ENCODING_XV709) else "bt601"
    if of in ("RGB", "BGR"):
        return matrix, True
    if not quantization:
        # A bare sensor's grey (RAW) is no video signal, and uses all 256 values.
        return matrix, colorspace in (_COLORSPACE_JPEG, _COLORSPACE_RAW)
    return matrix, quantization == _FULL_RANGE


def _least_bytes(of: Layout) -> int:
    """Up to the last pixel: what pads the last row need not be there."""
    if of.format == "MJPEG":
        return 4
    return max(
        offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + 1
        for offset, shape, strides in of.planes
    )


def _formats(fd: int, buffer_type: int) -> Iterator[int]:
    request = bytearray(abi.FMTDESC.size)
    for index in range(_MOST_ENTRIES):
        abi.FMTDESC.pack_into(request, 0, index, buffer_type, 0, b"", 0)
        try:
            fcntl.ioctl(fd, abi.ENUM_FMT, request)
        except OSError:
            return  # the end of the list
        yield abi.FMTDESC.unpack(request)[4]


def _sizes(fd: int, code: int, wish: Wish) -> Iterator[tuple[int, int]]:
    request = bytearray(abi.FRMSIZE.size)
    for index in range(_MOST_ENTRIES):
        abi.FRMSIZE.pack_into(request, 0, index, code, *[0] * 7)
        try:
            fcntl.ioctl(fd, abi.ENUM_FRAMESIZES, request)
        except OSError:
            if not index:
                yield wish.width, wish.height  # it does not list its sizes: ask, and see
            return
        _, _, kind, a, b, c, d, e, f = abi.FRMSIZE.unpack(request)
        if kind == abi.DISCRETE:
            yield a, b
        else:
            yield _stepped(wish.width, a, b, c), _stepped(wish.height, d, e, f)
            return


def _rates(fd: int, code: int, width: int, height: int, wish: Wish) -> Iterator[float]:
    request = bytearray(abi.FRMIVAL.size)
    for index in range(_MOST_ENTRIES):
        abi.FRMIVAL.pack_into(request, 0, index, code, width, height, *[0] * 7)
        try:
            fcntl.ioctl(fd, abi.ENUM_FRAMEINTERVALS, request)
        except OSError:
            if not index:
                yield wish.fps  # it does not list its rates
            return
        _, _, _, _, kind, least, of_least, most, of_most, _, _ = abi.FRMIVAL.unpack(request)
        fastest = of_least / least if least else wish.fps
        if kind == abi.DISCRETE:
            yield fastest
        else:
            yield max(min(wish.fps, fastest), of_most / most if most else 0.0)
            return


def _stepped(wanted: int, least: int, most: int, step: int) -> int:
    """The least size that is allowed and not less than wanted, else the most."""
    steps = math.ceil(max(wanted - least, 0) / max(step, 1))
    return min(least + steps * max(step, 1), most)


def _set_format(fd: int, buffer_type: int, mode: Mode) -> tuple[int, ...]:
    """width, height, fourcc, stride, bytes, colorspace, ycbcr encoding, quantization."""
    request = bytearray(abi.FORMAT_SIZE)
    abi.FORMAT_TYPE.pack_into(request, 0, buffer_type)
    if buffer_type == abi.CAPTURE:
        abi.PIX.pack_into(
            request, abi.FORMAT_UNION, mode.width, mode.height, mode.fourcc, abi.FIELD_NONE,
            0, 0, 0, abi.PRIV_MAGIC, 0, 0, 0, 0,
        )  # fmt: skip
        fcntl.ioctl(fd, abi.S_FMT, request)
        width, height, code, _, stride, nbytes, space, _, _, encoding, quantization, _ = (
            abi.PIX.unpack_from(request, abi.FORMAT_UNION)
        )
    else:
        abi.PIX_MPLANE.pack_into(
            request, abi.FORMAT_UNION, mode.width, mode.height, mode.fourcc, abi.FIELD_NONE,
            0, 0, 0, 1, 0, 0, 0,
        )  # fmt: skip
        fcntl.ioctl(fd, abi.S_FMT, request)
        width, height, code, _, space, nbytes, stride, planes, _, encoding, quantization = (
            abi.PIX_MPLANE.unpack_from(request, abi.FORMAT_UNION)
        )
        if planes != 1:
            raise OSError(errno.ENOTSUP, f"it has {planes} memory planes, and one can be read")
    return width, height, code, stride, nbytes, space, encoding, quantization


def _set_rate(fd: int, buffer_type: int, fps: float) -> float:
    """The rate that the driver takes; 0: it does not say."""
    request = bytearray(abi.STREAMPARM.pack(buffer_type, 0, 0, 1000, max(round(fps * 1000), 1)))
    try:
        fcntl.ioctl(fd, abi.S_PARM, request)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EINVAL):
            return 0.0  # a driver without a choice of rates
        raise
    _, capability, _, numerator, denominator = abi.STREAMPARM.unpack(request)
    if not capability & abi.CAP_TIMEPERFRAME or not numerator:
        return 0.0
    return float(denominator / numerator)


def _names() -> list[str]:
    return [name.lower() for name in dict.fromkeys(abi.FORMATS.values())]


def _useless(codes: list[int], identity: Identity, wish: Wish) -> str:
    has = ", ".join(abi.code_of(code) for code in codes) or "nothing"
    wanted = f"no {wish.format}" if wish.format else "nothing that can be read"
    advice = f"give format= one of {', '.join(_names())} that it has"
    if not any(code in abi.FORMATS for code in codes):
        advice = (
            "a sensor without an image processor needs libcamera: try picamera:// on a Raspberry "
            "Pi, csi:// on a Jetson"
        )
    return f"the camera {identity.path} ({identity.card}) gives {wanted}; it has: {has}; {advice}"
