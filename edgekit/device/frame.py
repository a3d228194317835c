"""A frame is camera memory, lent until it is released; a camera is what lends frames."""

from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from edgekit.device.copies import Copies
from edgekit.device.picture import Layout, Picture
from edgekit.errors import SpecError

Kind: TypeAlias = Literal["live", "clip", "stills"]
"""`live`: frames come by the clock, and one not taken in time is lost. `clip`: frames have a time,
and each is used. `stills`: images without a time of their own, each is used."""


class Frame:
    """One picture, lent. Use it in a `with` block, or call `release` once.

    Its memory is the camera's (a driver's buffer, a decoder's plane, a pool's slot), which is
    written anew after the release: copy what is needed later.
    """

    __slots__ = ("_picture", "_release", "captured_ns", "name", "sequence", "slot", "time_s")

    def __init__(
        self,
        picture: Picture,
        sequence: int,
        captured_ns: int,
        time_s: float,
        release: Callable[[], None],
        name: str = "",
        slot: int = -1,
    ) -> None:
        """Lend `picture`.

        Args:
            picture: in the camera's own memory and format.
            sequence: which frame of the source this is, from 0, each one that the source made
                counted, taken or not.
            captured_ns: when it was captured, on `time.monotonic_ns()`'s clock; the driver's own
                timestamp where it has one.
            time_s: its place in the source's own time, seconds from the first frame.
            release: gives the memory back; called once.
            name: the file it was read from; empty for a camera or a clip.
            slot: which of a `Shareable` camera's regions it lies in; -1 for others.
        """
        self._picture: Picture | None = picture
        self._release = release
        self.sequence = sequence
        self.captured_ns = captured_ns
        self.time_s = time_s
        self.name = name
        self.slot = slot

    @property
    def picture(self) -> Picture:
        """The pixels, valid until `release`.

        Raises:
            SpecError: the frame was released.
        """
        if self._picture is None:
            raise SpecError(f"frame {self.sequence} was used after its release; copy what you keep")
        return self._picture

    def release(self) -> None:
        """Give the memory back to the camera.

        Raises:
            SpecError: the frame was released before.
        """
        if self._picture is None:
            raise SpecError(f"frame {self.sequence} was released twice; release it once")
        self._picture = None
        self._release()

    def __enter__(self) -> "Frame":
        return self

    def __exit__(self, *_: object) -> None:
        if self._picture is not None:
            self.release()


class Camera(Protocol):
    """What a module in `edgekit/device/cameras` gives: `open_camera(uri: Uri) -> Camera`.

    One thread reads. Holds a resource: call `close()` once that thread has ended.
    """

    @property
    def kind(self) -> Kind:
        """When frames come, and whether each is used."""
        ...

    @property
    def deadline_s(self) -> float:
        """How long the next frame may take before the camera is gone; infinite for a file."""
        ...

    @property
    def copies(self) -> Copies:
        """Bytes that `read` copied so far."""
        ...

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


@runtime_checkable
class Shareable(Protocol):
    """What a camera has besides, if another process can map the memory that it lends.

    So capture can run in a process of its own, and no frame is copied between the two.
    """

    @property
    def fd(self) -> int:
        """A file descriptor that `mmap` takes, valid until `close`."""
        ...

    @property
    def regions(self) -> tuple[tuple[int, int], ...]:
        """(offset, bytes) of each slot in `fd`; a frame says its `slot`."""
        ...

    @property
    def layout(self) -> Layout:
        """Of the picture in each slot; it changes only by closing and opening again."""
        ...


FOREVER = float("inf")


def nothing() -> None:
    """The `release` of memory that Python frees by itself."""
