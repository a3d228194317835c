"""`out.mp4` or `file://out.mp4`: the annotated frames as a video.

Written under another name beside it and renamed at the end, so a video under its own name is always
whole; an existing one is replaced. Ending early (Ctrl-C) keeps what was recorded.
"""

import contextlib
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.device.copies import Copies
from edgekit.device.draw import annotate
from edgekit.device.image import prepare
from edgekit.device.packages import pyav
from edgekit.device.result import Result
from edgekit.device.uri import VIDEO_SUFFIXES, Uri
from edgekit.errors import EdgekitError, InputError, StorageError
from edgekit.spec import ImageSpec

_FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".mov": "mov"}
_ENCODERS = ("libx264", "libopenh264", "mpeg4")
"""First come, first taken: H.264 plays everywhere, MPEG-4 part 2 is always there."""
_TICKS = 1000
"""Of the video's clock, a second."""


def open_output(uri: Uri, copies: Copies) -> "Video":
    """A video file. No options.

    Raises:
        InputError: the name does not end in `.mp4`, `.mkv` or `.mov`.
        StorageError: the folder is missing or cannot be written.
        MissingPackage: PyAV is not installed.
    """
    uri.only()
    path = Path(uri.place)
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise InputError(f"'{path}' must end in {', '.join(sorted(VIDEO_SUFFIXES))}")
    if path.is_dir():
        raise StorageError(f"cannot write {path}: it is a folder; give a file name")
    if not path.parent.is_dir():
        raise StorageError(f"cannot write {path}: there is no folder {path.parent}; make it first")
    return Video(path, copies)


class Video:
    """A video file that is being written; its size is that of the first frame."""

    def __init__(self, path: Path, copies: Copies) -> None:
        self._av = pyav("writing a video file")
        self._path, self._copies = path, copies
        self._partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        self._stream: Any = None
        self._size = (0, 0)
        self._last = -1
        self._failed = False
        try:
            self._container: Any = self._av.open(
                f"file:{self._partial}", "w", format=_FORMATS[path.suffix.lower()]
            )
        except (OSError, self._av.FFmpegError) as error:
            raise self._refused(error) from error

    def write(self, result: Result) -> bool:
        """Draw and encode one frame.

        Raises:
            StorageError: the disk is full.
        """
        canvas = annotate(result, self._copies)
        try:
            if self._stream is None:
                self._start(canvas.shape[0], canvas.shape[1])
            self._encode(self._fit(canvas), result.frame.time_s)
        except (OSError, self._av.FFmpegError) as error:
            raise self._refused(error) from error
        return True

    def close(self) -> None:
        """Finish the file and give it its name; without a frame, or after an error, remove it.

        Raises:
            StorageError: the end of the file cannot be written.
        """
        container, self._container = self._container, None
        if container is None:
            return
        try:
            if self._stream is not None and not self._failed:
                container.mux(self._stream.encode(None))
            container.close()
            if self._stream is not None and not self._failed:
                self._partial.replace(self._path)
        except (OSError, self._av.FFmpegError) as error:
            if not self._failed:
                raise self._refused(error) from error
        finally:
            with contextlib.suppress(FileNotFoundError):
                self._partial.unlink()

    def _start(self, height: int, width: int) -> None:
        name = next(name for name in _ENCODERS if name in self._av.codecs_available)
        options = {"preset": "veryfast"} if name == "libx264" else {}  # a Pi has to keep up
        self._stream = self._container.add_stream(name, rate=30, options=options)
        # Encoders halve the colour planes: the sides must be even.
        self._size = (max(height // 2 * 2, 16), max(width // 2 * 2, 16))
        self._stream.height, self._stream.width = self._size
        self._stream.pix_fmt = "yuv420p"
        if name != "libx264":  # which goes by quality; the others want a rate: 0.1 bit a pixel
            self._stream.bit_rate = self._size[0] * self._size[1] * 3
        self._stream.codec_context.time_base = Fraction(1, _TICKS)

    def _fit(self, canvas: np.ndarray) -> np.ndarray:
        """`canvas` in the size of the video; photographs of a folder differ."""
        height, width = self._size
        if canvas.shape[0] - height in (0, 1) and canvas.shape[1] - width in (0, 1):
            return canvas[:height, :width]
        fitted = np.empty((height, width, 3), np.uint8)
        spec = ImageSpec(height, width, fit="letterbox", interpolation="area", fill=0)
        prepare(canvas, "RGB", spec, fitted)  # as it is: the order of the channels is kept
        self._copies.add("display", "resize to the video's size", fitted.nbytes)
        return fitted

    def _encode(self, canvas: np.ndarray, time_s: float) -> None:
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(canvas), format="bgr24")
        self._copies.add("display", "frame to the encoder", canvas.nbytes)
        self._last = max(round(time_s * _TICKS), self._last + 1)
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))
        self._copies.add("display", "BGR to YUV, by the encoder", canvas.nbytes // 2)

    def _refused(self, error: Exception) -> EdgekitError:
        self._failed = True
        if isinstance(error, OSError):
            return StorageError.from_os(error, self._path)
        return StorageError(f"cannot write {self._path}: {error}")
