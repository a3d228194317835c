"""Give frames to other processes: what `shm://NAME` reads.

    with Publisher("door", layout("NV12", 1280, 720)) as publisher:
        while True:
            picture = publisher.take()              # memory that the readers will look at
            if picture is not None:                 # None: they hold every slot
                fill(picture.planes)
            publisher.give()

`edgekit/device/shared.py` says how the memory lies, for programs in other languages.
"""

import time

import numpy as np

from edgekit.device.copies import UNCOUNTED, Copies
from edgekit.device.picture import Layout, Picture
from edgekit.device.shared import (
    CAPTURED,
    MOST_SLOTS,
    SEQUENCE,
    STATE,
    USED,
    create,
    path_of,
    published,
)
from edgekit.errors import SourceUnavailable, SpecError, StorageError


class Publisher:
    """Writes frames that other processes read. One thread uses it.

    Nobody reads a frame that is being written, and none that is being read is written: a frame for
    which there is no free slot is dropped, and counted in the sequence numbers.
    """

    def __init__(
        self,
        name: str,
        layout: Layout,
        slots: int = 6,
        *,
        mode: int = 0o600,
        copies: Copies = UNCOUNTED,
    ) -> None:
        """Make the memory; readers that come from now on find it.

        Args:
            name: of `shm://NAME`: letters, digits, '.', '-', '_'.
            layout: of every frame; one that changes needs a new publisher.
            slots: frames that there is memory for; each reader holds up to three at a time.
            mode: who may read it, as of a file; 0o644 for everybody.
            copies: counts what `write` copies.

        Raises:
            SpecError: the name or the number of slots is not as above.
            SourceUnavailable: another process publishes under this name.
            StorageError: there is no memory for it.
        """
        if not 2 <= slots <= MOST_SLOTS:
            raise SpecError(f"a publisher has 2 to {MOST_SLOTS} slots, got {slots}")
        self._path, self._copies = path_of(name), copies
        if published(self._path):
            raise SourceUnavailable(f"another process publishes shm://{name}; end it, or rename")
        try:
            self._shared = create(self._path, layout, slots, mode)
        except OSError as error:
            raise StorageError.from_os(error, self._path) from error
        self._slot: int | None = None
        self._sequence = 0

    def take(self) -> Picture | None:
        """Memory for the next frame, which is whatever it was; None if readers hold every slot.

        Raises:
            SpecError: the one that was taken before was not given.
        """
        if self._slot is not None:
            raise SpecError("give the frame that was taken before taking another one")
        shared = self._shared
        count, newest = shared.newest
        oldest_first = np.argsort(shared.slot[:, SEQUENCE], kind="stable")
        for slot in map(int, oldest_first):
            if (slot != newest or not count) and shared.lock(1 + slot, exclusive=True):
                shared.slot[slot, STATE] |= 1
                shared.slot[slot, USED] = shared.layout.nbytes
                self._slot = slot
                return shared.picture(slot)
        return None

    def give(self, captured_ns: int | None = None, used: int = 0) -> bool:
        """Publish what was taken; a frame that could not be taken is counted as dropped.

        Args:
            captured_ns: on `time.monotonic_ns()`'s clock; without it, now.
            used: of a JPEG, how many bytes of it are filled.

        Returns:
            Whether readers can see it.
        """
        sequence, self._sequence = self._sequence, self._sequence + 1
        slot, self._slot = self._slot, None
        if slot is None:
            return False
        row = self._shared.slot[slot]
        row[SEQUENCE], row[USED] = sequence, used or self._shared.layout.nbytes
        row[CAPTURED] = time.monotonic_ns() if captured_ns is None else captured_ns
        row[STATE] += 1  # even: it is whole
        self._shared.unlock(1 + slot)
        self._shared.publish(slot)
        return True

    def write(self, picture: Picture, captured_ns: int | None = None) -> bool:
        """Publish a copy of `picture`, which must be of this publisher's format and size.

        Raises:
            SpecError: it is not.
        """
        layout, used = self._shared.layout, 0
        if (picture.format, picture.width, picture.height) != (
            layout.format, layout.width, layout.height,
        ) or (picture.format == "MJPEG" and picture.planes[0].size > layout.nbytes):  # fmt: skip
            raise SpecError(
                f"this publisher has {layout.width}x{layout.height} pixels {layout.format} of at "
                f"most {layout.nbytes} bytes, got {picture.width}x{picture.height} {picture.format}"
            )
        target = self.take()
        if target is not None:
            for source, out in zip(picture.planes, target.planes, strict=True):
                # A copy of the whole frame: the camera's memory is not the readers' to look at.
                np.copyto(out[: len(source)], source)
                used += source.nbytes
            self._copies.add("frame", "into memory shared with other processes", used)
        return self.give(captured_ns, used if picture.format == "MJPEG" else 0)

    def close(self) -> None:
        """End: readers see it at once. Closing again does nothing."""
        if self._shared.fd < 0:
            return
        self._path.unlink(missing_ok=True)
        self._shared.close()

    def __enter__(self) -> "Publisher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
