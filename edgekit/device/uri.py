"""Where frames come from and results go to, as text: a path, or `scheme://place?option=value`.

Sources: `cat.jpg`, `photos/`, `clip.mp4`, `synthetic://640x480@30`, `v4l2:///dev/video0`,
`csi://0`; outputs: `display://`, `out.mp4`, `json://-`, `null://`. A scheme is the name of a module
in `edgekit/device/cameras` or `edgekit/device/outputs`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import parse_qsl, unquote

from edgekit import plugins
from edgekit.device.capture import apart
from edgekit.device.capture.apart import Opener
from edgekit.device.capture.steady import Steady
from edgekit.device.copies import Copies
from edgekit.device.frame import Camera
from edgekit.device.image import SUFFIXES
from edgekit.device.result import Output
from edgekit.device.shown import shown
from edgekit.errors import (
    ImageError,
    InputError,
    SourceUnavailable,
    SpecError,
    StorageError,
    UnknownName,
)
from edgekit.spec import USUAL_LOOP, Capture, LoopOptions

VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov"})
"""What an output without a scheme may end in."""


_NOT_CAMERAS = frozenset({"dir", "file", "image"})
_MAPPED = frozenset({"v4l2"})
"""Cameras whose memory another process can map: capture apart costs no copy."""


@dataclass(frozen=True, slots=True)
class Uri:
    """A source or an output, taken apart. Options are checked by the module that reads them."""

    text: str
    """As it was given, for messages."""
    scheme: str
    place: str
    """What stands between `://` and `?`: a path, a device, a size."""
    options: Mapping[str, str]

    def only(self, *known: str) -> None:
        """Refuse options other than `known`.

        Raises:
            UnknownName: names the valid ones.
        """
        for name in self.options:
            if name not in known:
                raise UnknownName(f"option of {self.scheme}://", name, known)

    def choice(self, name: str, choices: Iterable[str], default: str) -> str:
        """An option that is one of `choices`."""
        value = self.options.get(name, default)
        if value not in (*choices,):
            raise UnknownName(f"{name} of {self.scheme}://", value, choices)
        return value

    def number(self, name: str, default: float, lowest: float, highest: float) -> float:
        """An option that is a number from `lowest` to `highest`."""
        return number(self, name, self.options.get(name, str(default)), lowest, highest)


def number(uri: Uri, name: str, text: str, lowest: float, highest: float) -> float:
    """Read `text`, the part of `uri` called `name`, as a number.

    Raises:
        SpecError: it is no number from `lowest` to `highest`.
    """
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not lowest <= value <= highest:
        raise SpecError(
            f"{name} of '{shown(uri.text)}' must be a number from {lowest:g} to {highest:g}, "
            f"got '{text}'"
        )
    return value


def parse_source(text: str) -> Uri:
    """Take a source apart; a plain path is an image, a folder or a clip by what is there.

    Raises:
        ImageError: a plain path where there is nothing.
        InputError: an empty text.
    """
    uri = _parse(text)
    if uri.scheme:
        return uri
    path = Path(uri.place)
    if path.is_dir():
        scheme = "dir"
    elif not path.exists():
        raise ImageError(
            f"no file or folder '{uri.place}'; give an image, a folder, a clip, "
            f"or one of {', '.join(name + '://' for name in plugins.cameras())}"
        )
    elif path.is_char_device():
        scheme = "v4l2"
    else:
        scheme = "image" if path.suffix.lower() in SUFFIXES else "file"
    return Uri(text, scheme, uri.place, uri.options)


def parse_output(text: str) -> Uri:
    """Take an output apart; a plain path is a video file.

    Raises:
        StorageError: a plain path that ends in none of `VIDEO_SUFFIXES`.
        InputError: an empty text.
    """
    uri = _parse(text)
    if uri.scheme:
        return uri
    if Path(uri.place).suffix.lower() not in VIDEO_SUFFIXES:
        raise StorageError(
            f"cannot write '{shown(text)}': an output is a file that ends in "
            f"{', '.join(sorted(VIDEO_SUFFIXES))}, "
            f"or one of {', '.join(name + '://' for name in plugins.outputs())}"
        )
    return Uri(text, "file", uri.place, uri.options)


def open_camera(text: str, options: LoopOptions = USUAL_LOOP) -> Camera:
    """Open a source; a live one is opened again when it stalls or goes away (see `Steady`).

    Args:
        text: a path or `scheme://place?option=value`.
        options: where a live camera is read, and on which cores: those of a bundle's manifest.

    Raises:
        UnknownName: no such scheme or option.
        ImageError: a file that is not there or cannot be decoded.
        SourceUnavailable: a camera that is not there, is busy, or may not be opened.
        MissingPackage: a package that this source needs.
    """
    known, apart_from_us = text, Opener(options.capture_cores)

    def opened() -> Camera:
        nonlocal known
        alone = _wants_process(parse_source(known), options.capture)
        camera: Camera = apart_from_us(known) if alone else open_raw(known)
        known = getattr(camera, "again", known)  # a camera may come back under another number
        return camera

    camera = opened()
    return Steady(opened, camera, done=apart_from_us.close) if camera.kind == "live" else camera


def _wants_process(uri: Uri, capture: Capture) -> bool:
    """Whether this source is read in a process of its own."""
    if capture == "thread" or uri.scheme in _NOT_CAMERAS:
        return False
    if capture == "process" and not apart.possible():
        raise SourceUnavailable(
            "capture in a process of its own passes memory between processes as Linux does; "
            "use --capture thread here"
        )
    return capture == "process" or (uri.scheme in _MAPPED and apart.possible())


def open_raw(text: str) -> Camera:
    """Open a source as it is: in this process, and when it fails it has failed.

    Raises:
        UnknownName: no such scheme or option.
        ImageError: a file that is not there or cannot be decoded.
        SourceUnavailable: a camera that is not there, is busy, or may not be opened.
        MissingPackage: a package that this source needs.
    """
    uri = parse_source(text)
    return cast(Camera, plugins.camera(uri.scheme).open_camera(uri))


def open_output(text: str, copies: Copies) -> Output:
    """Open an output; it counts the pixels that it draws in `copies`.

    Raises:
        UnknownName: no such scheme or option.
        StorageError: a file that cannot be written.
        SourceUnavailable: no display.
        MissingPackage: a package that this output needs.
    """
    uri = parse_output(text)
    return cast(Output, plugins.output(uri.scheme).open_output(uri, copies))


def _parse(text: str) -> Uri:
    if not text.strip():
        raise InputError("an empty source or output was given; give a path or scheme://place")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "", text
    if not scheme and Path(text).exists():
        return Uri(text, "", text, {})  # a file may have '?' in its name
    place, _, query = rest.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    if len(dict(options)) != len(options):
        raise SpecError(f"an option is given twice in '{shown(text)}'")
    return Uri(text, scheme, unquote(place) if scheme else place, dict(options))
