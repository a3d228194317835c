"""Pictures for the live page: made smaller in the loop, and into a JPEG beside it.

While nobody waits for a picture, the loop only looks at a number. While somebody does, it hands at
most one small copy at a time, at a bounded rate, to the thread that encodes; whoever is slower than
that gets fewer pictures.
"""

import threading
import time
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np

from edgekit.device.copies import Copies
from edgekit.device.image import Preparer
from edgekit.device.packages import opencv
from edgekit.device.picture import Picture
from edgekit.device.result import Result
from edgekit.errors import ImageError
from edgekit.spec import ImageSpec

_QUALITY = 80
_FRESH_S = 1.0
_LONGEST_JPEG = 16 << 20


@dataclass(frozen=True, slots=True)
class Encoded:
    """A picture that can be sent."""

    number: int
    """From 1, in the order they were made."""
    jpeg: bytes
    result: Result
    """What it was made for; the frame itself was released."""
    made_s: float
    """On `time.monotonic()`'s clock."""


@dataclass(frozen=True, slots=True)
class _Job:
    view: "View"
    picture: Picture
    """In the view's own memory."""
    result: Result


class Encoder:
    """The thread that makes JPEGs, for all streams of a run."""

    def __init__(self) -> None:
        """Start it.

        Raises:
            MissingPackage: OpenCV is not installed.
        """
        self.cv2 = opencv("showing frames")
        self.jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="live page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread after what it has to do."""
        self.jobs.put(None)
        self._thread.join(2.0)

    def _work(self) -> None:
        while (job := self.jobs.get()) is not None:
            job.view.encode(job.picture, job.result)


class View:
    """The newest picture of a stream, as a JPEG, for any number of threads that wait for it."""

    def __init__(self, encoder: Encoder, longest: int, rate: float, copies: Copies) -> None:
        """Start without a picture.

        Args:
            encoder: makes the JPEGs.
            longest: the longer side of a picture, at most, in pixels.
            rate: pictures a second, at most.
            copies: counts the bytes.
        """
        self._encoder, self._copies = encoder, copies
        self._longest, self._interval_ns = longest, round(1e9 / rate)
        self._own = Copies()
        self._due_ns = 0
        self._busy = False
        self._small = np.empty((0, 0, 3), np.uint8)
        self._compressed = np.empty(0, np.uint8)
        self._preparer: Preparer | None = None
        self._changed = threading.Condition()
        self._newest: Encoded | None = None
        self._waiting = 0
        self._closed = False

    def offer(self, result: Result) -> None:
        """Take a copy of the frame's picture if somebody waits for one (the loop's thread)."""
        if not self._waiting or self._busy:
            return
        now = time.monotonic_ns()
        if now < self._due_ns:
            return
        self._due_ns = max(self._due_ns + self._interval_ns, now)
        picture = result.frame.picture
        mine = self._compact(picture) if picture.format == "MJPEG" else self._smaller(picture)
        if mine is None:
            return
        self._count()
        self._busy = True
        self._encoder.jobs.put(_Job(self, mine, result))

    def newer(self, than: int, wait_s: float) -> Encoded | None:
        """Wait for a picture with a number above `than`; None if there is none in that time.

        One that was made for somebody else is good enough if it is not a second old.
        """
        with self._changed:
            known = self._newest
            if known and known.number > than and time.monotonic() - known.made_s < _FRESH_S:
                return known
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: self._newest is not known or self._closed, wait_s)
            finally:
                self._waiting -= 1
            newest = self._newest
        return newest if newest and newest.number > than else None

    def encode(self, picture: Picture, result: Result) -> None:
        """Make the JPEG and wake who waits for it (the encoder's thread)."""
        try:
            jpeg = self._jpeg(picture)
        except ImageError:
            jpeg = b""  # a broken JPEG of the camera's: the next one may be whole
        if jpeg:
            with self._changed:
                number = self._newest.number + 1 if self._newest else 1
                self._newest = Encoded(number, jpeg, result, time.monotonic())
                self._changed.notify_all()
        self._busy = False

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _smaller(self, picture: Picture) -> Picture:
        """A copy of `picture` at the size that is sent: the only pixels that the loop writes."""
        width, height = picture.upright_size
        scale = min(1.0, self._longest / max(width, height))
        shape = (max(round(height * scale), 1), max(round(width * scale), 1), 3)
        if self._preparer is None or self._small.shape != shape:
            self._small = np.empty(shape, np.uint8)
            spec = ImageSpec(shape[0], shape[1], fit="stretch")
            self._preparer = Preparer(spec, self._own)
        self._preparer(picture, self._small)
        return Picture("RGB", shape[1], shape[0], (self._small,))

    def _compact(self, picture: Picture) -> Picture | None:
        """A copy of a JPEG's bytes, which are few; it is decoded in the other thread."""
        (source,) = picture.planes
        if len(source) > _LONGEST_JPEG:
            return None
        if len(source) > len(self._compressed):
            self._compressed = np.empty(len(source) * 5 // 4, np.uint8)
        mine = self._compressed[: len(source)]
        mine[:] = source
        self._own.add("display", "JPEG", mine.nbytes)
        return Picture(
            "MJPEG", picture.width, picture.height, (mine,), picture.matrix,
            picture.full_range, picture.turns,
        )  # fmt: skip

    def _count(self) -> None:
        """Move what was copied since into the run's counter, which only the loop's thread adds to.

        What the other thread wrote is counted with the next picture.
        """
        copied = sum(self._own.by_reason.values())
        self._own.by_reason.clear()
        self._copies.add("display", "picture for the live page", copied)

    def _jpeg(self, picture: Picture) -> bytes:
        cv2 = self._encoder.cv2
        if picture.format == "MJPEG":
            picture = self._smaller(picture)
        (pixels,) = picture.planes
        cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR, dst=pixels)  # in place: the encoder wants BGR
        _, jpeg = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
        self._own.add("display", "encoding", pixels.nbytes + jpeg.nbytes)
        return bytes(jpeg)
