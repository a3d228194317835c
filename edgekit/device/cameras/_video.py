"""FFmpeg's decoded frames as pictures: the decoder's own planes, lent as they are."""

from typing import Any

import numpy as np

from edgekit.device.copies import Copies
from edgekit.device.picture import Matrix, Picture, PixelFormat

# The pixel formats whose planes we lend, by FFmpeg's names. An alpha plane comes last: left out.
_LENT: dict[str, PixelFormat] = {
    "yuv420p": "I420",
    "yuvj420p": "I420",
    "yuva420p": "I420",
    "nv12": "NV12",
    "gray": "GREY",
    "yuyv422": "YUYV",
    "rgb24": "RGB",
    "bgr24": "BGR",
}
# FFmpeg's AVColorSpace. FCC and BT.470BG are BT.601 within 1 %, SMPTE 240M is nearly BT.709.
_MATRICES: dict[int, Matrix] = {1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 7: "bt709"}
_BT2020 = (9, 10)
_HD_LINES = 720  # untagged video of so many lines or more is BT.709, below it is BT.601
_LIMITED, _FULL = 1, 2  # AVColorRange; 0 is untagged


def picture(decoded: Any, copies: Copies) -> Picture:
    """The picture in a decoded frame (`av.VideoFrame`); its planes keep the frame's memory alive.

    Nothing is copied if the decoder's format is one of a `Picture`'s. Others (more than 8 bits,
    BT.2020, 4:4:4 ...) are converted by FFmpeg to the nearest one, and that is counted.
    """
    # BT.2020's matrix is none of a Picture's: FFmpeg knows it, and makes RGB.
    wide = decoded.colorspace in _BT2020 and _is_yuv(decoded)
    shown = decoded
    if decoded.format.name not in _LENT or wide or decoded.planes[0].line_size < 0:
        shown = _convert(decoded, wide, copies)
    of, width, height = _LENT[shown.format.name], decoded.width, decoded.height
    turns = round(decoded.rotation / 90) % 4  # phones record sideways and say so in the file
    planes = _planes(of, width, height, shown.planes)
    return Picture(of, width, height, planes, _matrix(decoded), _is_full(decoded), turns)


def _planes(of: PixelFormat, width: int, height: int, lent: Any) -> tuple[np.ndarray, ...]:
    half_width, half_height = (width + 1) // 2, (height + 1) // 2
    shapes: tuple[tuple[int, ...], ...]
    if of == "I420":
        shapes = (height, width), (half_height, half_width), (half_height, half_width)
    elif of == "NV12":
        shapes = (height, width), (half_height, half_width, 2)
    elif of == "YUYV":
        shapes = ((height, half_width, 4),)
    elif of == "GREY":
        shapes = ((height, width),)
    else:
        shapes = ((height, width, 3),)
    return tuple(
        np.ndarray(shape, np.uint8, plane, 0, (plane.line_size, *_inner(shape)))
        for shape, plane in zip(shapes, lent, strict=False)
    )


def _inner(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1,) if len(shape) == 2 else (shape[2], 1)


def _convert(decoded: Any, wide: bool, copies: Copies) -> Any:
    """The frame in the nearest format that is lent: same matrix, same range, 8 bits."""
    source = decoded.format
    if wide or not _is_yuv(decoded):
        target = "rgb24" if len(source.components) > 2 or source.has_palette else "gray"
    elif source.name in ("yuv422p", "yuvj422p", "uyvy422", "yvyu422"):
        target = "yuyv422"  # the same numbers in another order
    else:
        target = "yuv420p"
    # The range stays as it is. Without being told, FFmpeg would squeeze yuvj422p and the like.
    colour_range = _FULL if _is_full(decoded) else _LIMITED
    arguments = {"src_color_range": colour_range, "dst_color_range": colour_range}
    if target == "rgb24":
        arguments = {"src_color_range": colour_range, "dst_color_range": _FULL}
        if wide:
            arguments["src_colorspace"] = 9
    made = decoded.reformat(format=target, **arguments)
    # A copy of the whole frame: no Picture holds these pixels as the decoder gives them.
    why = "BT.2020" if wide else source.name
    copies.add("frame", f"decoded {why} to {target}", sum(p.buffer_size for p in made.planes))
    return made


def _is_yuv(decoded: Any) -> bool:
    components = decoded.format.components
    return len(components) > 2 and not decoded.format.is_rgb


def _is_full(decoded: Any) -> bool:
    if decoded.color_range in (_LIMITED, _FULL):
        return bool(decoded.color_range == _FULL)
    return decoded.format.name.startswith("yuvj") or not _is_yuv(decoded)  # grey: a PNG's


def _matrix(decoded: Any) -> Matrix:
    """The stream's own, or what its number of lines implies."""
    implied: Matrix = "bt709" if decoded.height >= _HD_LINES else "bt601"
    return _MATRICES.get(int(decoded.colorspace), implied)


def reason(error: Exception) -> str:
    """What FFmpeg or the system says went wrong, without our file's name."""
    return getattr(error, "strerror", None) or str(error)
