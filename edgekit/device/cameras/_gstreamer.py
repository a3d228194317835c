"""As much of GStreamer's C interface as an appsink needs, called directly.

Not through python3-gi: that is built for the system's Python alone, and gives a mapped buffer as a
copy in `bytes`. The structures are those of the public headers, which GStreamer 1.x does not change
(gst/gstbuffer.h, gst/video/video-info.h, gst/video/video-frame.h).
"""

import ctypes
import shutil
import subprocess
import sys
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from functools import cache
from types import SimpleNamespace
from typing import Any

from edgekit.errors import SourceUnavailable

PLAYING, NULL = 4, 1  # GstState
FAILED = 0  # GstStateChangeReturn
ERROR = 2  # GstMessageType
MAP_READ = 1
FORMAT_TIME = 3
NONE = 2**64 - 1
"""Of a time or an offset that is not known."""
FULL_RANGE = 1
BT709, BT601, SMPTE240M, BT2020 = 3, 4, 5, 6  # GstVideoColorMatrix

PACKAGES = "gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
"""The Debian packages that bring it, with the elements that most pipelines use."""


class MiniObject(ctypes.Structure):
    """What buffers, messages, samples and caps start with."""

    _fields_ = (
        ("type", c_size_t),
        ("refcount", c_int),
        ("lockstate", c_int),
        ("flags", c_uint),
        ("copy", c_void_p),
        ("dispose", c_void_p),
        ("free", c_void_p),
        ("private_number", c_uint),
        ("private", c_void_p),
    )


class Buffer(ctypes.Structure):
    """One frame's memory and its times."""

    _fields_ = (
        ("mini_object", MiniObject),
        ("pool", c_void_p),
        ("pts", c_uint64),
        ("dts", c_uint64),
        ("duration", c_uint64),
        ("offset", c_uint64),
        ("offset_end", c_uint64),
    )


class Error(ctypes.Structure):
    """GLib's error."""

    _fields_ = (("domain", ctypes.c_uint32), ("code", c_int), ("message", c_char_p))


class MapInfo(ctypes.Structure):
    """Memory that is mapped until it is unmapped."""

    _fields_ = (
        ("memory", c_void_p),
        ("flags", c_int),
        ("data", c_void_p),
        ("size", c_size_t),
        ("maxsize", c_size_t),
        ("user_data", c_void_p * 4),
        ("reserved", c_void_p * 4),
    )


class FormatInfo(ctypes.Structure):
    """A pixel format; its beginning."""

    _fields_ = (("format", c_int), ("name", c_char_p))


class VideoInfo(ctypes.Structure):
    """How the pixels of a frame lie."""

    _fields_ = (
        ("format", POINTER(FormatInfo)),
        ("interlace_mode", c_int),
        ("flags", c_int),
        ("width", c_int),
        ("height", c_int),
        ("size", c_size_t),
        ("views", c_int),
        ("chroma_site", c_int),
        ("range", c_int),
        ("matrix", c_int),
        ("transfer", c_int),
        ("primaries", c_int),
        ("par_n", c_int),
        ("par_d", c_int),
        ("fps_n", c_int),
        ("fps_d", c_int),
        ("offset", c_size_t * 4),
        ("stride", c_int * 4),
        ("reserved", c_void_p * 4),
    )


class VideoFrame(ctypes.Structure):
    """A mapped frame: `data` points to its planes, `info.stride` is as it lies in this buffer."""

    _fields_ = (
        ("info", VideoInfo),
        ("flags", c_int),
        ("buffer", c_void_p),
        ("meta", c_void_p),
        ("id", c_int),
        ("data", c_void_p * 4),
        ("map", MapInfo * 4),
        ("reserved", c_void_p * 4),
    )


_FUNCTIONS: dict[str, dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "glib-2.0": {
        "g_error_free": (None, (c_void_p,)),
        "g_free": (None, (c_void_p,)),
    },
    "gstreamer-1.0": {
        "gst_init_check": (c_int, (c_void_p, c_void_p, c_void_p)),
        "gst_parse_launch": (c_void_p, (c_char_p, POINTER(POINTER(Error)))),
        "gst_bin_get_by_name": (c_void_p, (c_void_p, c_char_p)),
        "gst_element_set_state": (c_int, (c_void_p, c_int)),
        "gst_element_get_bus": (c_void_p, (c_void_p,)),
        "gst_element_get_clock": (c_void_p, (c_void_p,)),
        "gst_element_get_base_time": (c_uint64, (c_void_p,)),
        "gst_clock_get_time": (c_uint64, (c_void_p,)),
        "gst_bus_pop_filtered": (c_void_p, (c_void_p, c_uint)),
        "gst_message_parse_error": (
            None,
            (c_void_p, POINTER(POINTER(Error)), POINTER(c_void_p)),
        ),
        "gst_mini_object_ref": (c_void_p, (c_void_p,)),
        "gst_mini_object_unref": (None, (c_void_p,)),
        "gst_object_unref": (None, (c_void_p,)),
        "gst_sample_get_buffer": (POINTER(Buffer), (c_void_p,)),
        "gst_sample_get_caps": (c_void_p, (c_void_p,)),
        "gst_sample_get_segment": (c_void_p, (c_void_p,)),
        "gst_segment_to_running_time": (c_uint64, (c_void_p, c_int, c_uint64)),
        "gst_caps_get_structure": (c_void_p, (c_void_p, c_uint)),
        "gst_structure_get_name": (c_char_p, (c_void_p,)),
        "gst_structure_get_int": (c_int, (c_void_p, c_char_p, POINTER(c_int))),
        "gst_buffer_map": (c_int, (c_void_p, POINTER(MapInfo), c_int)),
        "gst_buffer_unmap": (None, (c_void_p, POINTER(MapInfo))),
    },
    "gstapp-1.0": {
        "gst_app_sink_try_pull_sample": (c_void_p, (c_void_p, c_uint64)),
        "gst_app_sink_is_eos": (c_int, (c_void_p,)),
    },
    "gstvideo-1.0": {
        "gst_video_info_from_caps": (c_int, (POINTER(VideoInfo), c_void_p)),
        "gst_video_frame_map": (
            c_int,
            (POINTER(VideoFrame), POINTER(VideoInfo), c_void_p, c_int),
        ),
        "gst_video_frame_unmap": (None, (POINTER(VideoFrame),)),
    },
}


@cache
def library() -> Any:
    """GStreamer, initialised: an object with its functions.

    Raises:
        SourceUnavailable: it is not installed, or does not start.
    """
    found = SimpleNamespace()
    for name, functions in _FUNCTIONS.items():
        loaded = _load(name)
        for function, (result, arguments) in functions.items():
            called = getattr(loaded, function)
            called.restype, called.argtypes = result, arguments
            setattr(found, function, called)
    if not found.gst_init_check(None, None, None):
        raise SourceUnavailable("GStreamer does not start; try `gst-launch-1.0 --version`")
    return found


def is_set(error: "ctypes._Pointer[Error]") -> bool:
    """Whether an error was written there."""
    return ctypes.cast(error, c_void_p).value is not None


def text_of(functions: Any, error: "ctypes._Pointer[Error]") -> str:
    """What an error says; frees it."""
    text: bytes = error.contents.message
    functions.g_error_free(error)
    return text.decode(errors="replace")


def error_of(functions: Any, message: int) -> tuple[str, str]:
    """What a message that is an error says, and its details, for developers."""
    error, details = POINTER(Error)(), c_void_p()
    functions.gst_message_parse_error(message, ctypes.byref(error), ctypes.byref(details))
    told = ctypes.cast(details, c_char_p).value or b""
    functions.g_free(details)
    return text_of(functions, error), told.decode(errors="replace")


def installed() -> bool:
    """Whether GStreamer's libraries are here; they are not started."""
    try:
        for name in _FUNCTIONS:
            _load(name)
    except SourceUnavailable:
        return False
    return True


def has_element(name: str) -> bool:
    """Whether GStreamer has this element; asked of its own tool, for a broken one may crash."""
    asked = shutil.which("gst-inspect-1.0")
    if asked is None:
        return False
    command = [asked, "--exists", name]
    try:
        return not subprocess.run(command, capture_output=True, timeout=60, check=False).returncode
    except subprocess.TimeoutExpired:
        return False


def _load(name: str) -> ctypes.CDLL:
    file = f"lib{name}.0.dylib" if sys.platform == "darwin" else f"lib{name}.so.0"
    try:
        return ctypes.CDLL(file)
    except OSError as error:
        raise SourceUnavailable(
            f"this source needs GStreamer, and {file} is not there; install it: "
            f"sudo apt install {PACKAGES}"
        ) from error
