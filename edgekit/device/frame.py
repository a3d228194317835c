"""A frame is camera memory, lent until it is released; a camera is what lends frames."""

from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias

import numpy as np

from edgekit.device.copies import Copies
from edgekit.device.image import Order
from edgekit.errors import SpecError

Kind: TypeAlias = Literal["live", "clip", "stills"]
"""`live`: frames come by the clock, and one not taken in time is lost. `clip`: frames have a time,
and each is used. `stills`: images without a time of their own, each is used."""


class Frame:
    """One picture, lent. Use it in a `with` block, or call `release` once.

    The pixels are the camera's memory (a driver's buffer, a decoder's plane, a pool's slot), which
    is written anew after the release: copy what is needed later.
    """

    __slots__ = ("_pixels", "_release", "captured_ns", "name", "order", "sequence", "time_s")

    def __init__(
        self,
        pixels: np.ndarray,
        order: Order,
        sequence: int,
        captured_ns: int,
        time_s: float,
        release: Callable[[], None],
        name: str = "",
    ) -> None:
        """Lend `pixels`.

        Args:
            pixels: (H, W, 3) uint8, any strides.
            order: of the channels.
            sequence: which frame of the source this is, from 0, dropped ones counted.
            captured_ns: when it was captured, on `time.monotonic_ns()`'s clock.
            time_s: its place in the source's own time, seconds from the first frame.
            release: gives the memory back; called once.
            name: the file it was read from; empty for a camera or a clip.
        """
        self._pixels: np.ndarray | None = pixels
        self._release = release
        self.order: Order = order
        self.sequence = sequence
        self.captured_ns = captured_ns
        self.time_s = time_s
        self.name = name

    @property
    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8, valid until `release`.

        Raises:
            SpecError: the frame was released.
        """
        if self._pixels is None:
            raise SpecError(f"frame {self.sequence} was used after its release; copy what you keep")
        return self._pixels

    def release(self) -> None:
        """Give the memory back to the camera.

        Raises:
            SpecError: the frame was released before.
        """
        if self._pixels is None:
            raise SpecError(f"frame {self.sequence} was released twice; release it once")
        self._pixels = None
        self._release()

    def __enter__(self) -> "Frame":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pixels is not None:
            self.release()


class Camera(Protocol):
    """What a module in `edgekit/device/cameras` gives: `open_camera(uri: Uri) -> Camera`.

    One thread reads. Holds a resource: call `close()` once that thread has ended.
    """

    kind: Kind
    deadline_s: float
    """How long the next frame may take before the camera counts as gone; infinite for a file."""
    copies: Copies
    """Bytes that `read` copied so far."""

    def read(self) -> Frame | None:
        """Wait for the next frame; None at the end of the source.

        Raises:
            SourceUnavailable: the camera went away, or gave nothing within its deadline.
            ImageError: the file cannot be decoded.
        """
        ...

    def close(self) -> None:
        """Free the camera; closing again does nothing."""
        ...


FOREVER = float("inf")


def nothing() -> None:
    """The `release` of memory that Python frees by itself."""
