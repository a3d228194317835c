"""A camera's buffers: mapped once, dequeued and queued as frames come and go."""

import errno
import fcntl
import os
import select
import threading
from functools import partial
from mmap import MAP_SHARED, PROT_READ, PROT_WRITE, mmap

from edgekit.device.cameras import _v4l2_abi as abi
from edgekit.device.cameras._v4l2_device import Identity, busy
from edgekit.errors import SourceUnavailable


class Stream:
    """Mapped buffers that the driver fills. Owns the file descriptor; closed once.

    One thread dequeues; any thread may queue.
    """

    def __init__(self, fd: int, identity: Identity, count: int, least_bytes: int) -> None:
        """Map the buffers, give them all to the driver, and start.

        Args:
            fd: an open camera whose format is set; closed by `close`, and by a failure here.
            identity: of it.
            count: buffers to ask for; a driver may give more or fewer.
            least_bytes: what a buffer must hold.

        Raises:
            SourceUnavailable: the camera is busy, or refuses.
        """
        self.fd = fd
        self._identity = identity
        self._mplane = identity.buffer_type == abi.CAPTURE_MPLANE
        self.closed = False
        self._lock = threading.Lock()
        self.regions: tuple[tuple[int, int], ...] = ()
        self.memory: list[mmap] = []
        self.lent = bytearray()
        """Per buffer, whether it is not the driver's now; of a closed camera none is."""
        self.broken: OSError | None = None
        """What went wrong when a buffer was given back; the next read tells."""
        try:
            self._start(count, least_bytes)
        except OSError as error:
            self.close()
            if error.errno == errno.EBUSY:
                raise busy(identity.path) from error
            raise SourceUnavailable(
                f"the camera {identity.path} ({identity.card}) cannot start: {error.strerror}; "
                "give a smaller size or fewer buffers=, or unplug it and plug it in again"
            ) from error
        except BaseException:
            self.close()
            raise
        self.returns = tuple(partial(self.queue, slot) for slot in range(len(self.memory)))
        """Per buffer, what gives it back to the driver."""

    def dequeue(self) -> tuple[int, int, int, int, int, int]:
        """The next filled buffer: index, bytes used, flags, seconds, microseconds, sequence.

        Raises:
            OSError: as the driver says; BlockingIOError where none is filled.
        """
        buffer = self._buffer
        buffer[:] = self._blank
        fcntl.ioctl(self.fd, abi.DQBUF, buffer)
        index, used, flags, seconds, micros, sequence = abi.DEQUEUED.unpack_from(buffer)
        if self._mplane:
            used, _, _, skipped = abi.PLANE.unpack(self._planes)
            used = 0 if skipped else used  # a header before the pixels would shift all of them
        self.lent[index] = 1
        return index, used, flags, seconds, micros, sequence

    def queue(self, slot: int) -> None:
        """Give a buffer back to the driver; nothing happens where the camera was closed."""
        with self._lock:
            if self.closed:
                return
            self.lent[slot] = 0  # before: the reader may have it again at once
            try:
                fcntl.ioctl(self.fd, abi.QBUF, self._requests[slot])
            except OSError as error:  # unplugged: who releases a frame can do nothing about it
                self.broken = error

    def export(self, slot: int) -> int:
        """A DMABUF file descriptor of a buffer, for a GPU or an encoder; the caller closes it.

        Raises:
            SourceUnavailable: the driver cannot.
        """
        request = bytearray(
            abi.EXPORTBUFFER.pack(self._identity.buffer_type, slot, 0, os.O_CLOEXEC | os.O_RDWR, -1)
        )
        try:
            fcntl.ioctl(self.fd, abi.EXPBUF, request)
        except OSError as error:
            raise SourceUnavailable(
                f"the camera {self._identity.path} ({self._identity.card}) cannot export buffers "
                f"as DMABUF: {error.strerror}; map its memory instead"
            ) from error
        return int(abi.EXPORTBUFFER.unpack(request)[4])

    def changed(self) -> bool:
        """Take the driver's event; whether it says that the format is no longer the same."""
        event = bytearray(abi.EVENT.size)
        try:
            fcntl.ioctl(self.fd, abi.DQEVENT, event)
        except OSError:
            return False  # none waits
        return bool(abi.EVENT.unpack(event)[0] == abi.EVENT_SOURCE_CHANGE)

    def close(self) -> None:
        """Stop and give the camera back; memory that is still lent stays until it is let go."""
        with self._lock:
            if self.closed:
                return
            self.closed, self.lent = True, bytearray(b"\1") * len(self.lent)
            kind = self._identity.buffer_type
            for request, argument in (
                (abi.STREAMOFF, abi.FORMAT_TYPE.pack(kind)),
                # Frees the camera for others even while a frame is lent: Python's mappings hold
                # the device open.
                (abi.REQBUFS, abi.REQUESTBUFFERS.pack(0, kind, abi.MMAP, 0, 0)),
            ):
                try:
                    fcntl.ioctl(self.fd, request, argument)
                except OSError:
                    continue  # it is gone, or was not started: closing is all that is left
            self.memory.clear()  # unmapped when the last picture in it goes
            os.close(self.fd)

    def _start(self, count: int, least_bytes: int) -> None:
        kind = self._identity.buffer_type
        request = bytearray(abi.REQUESTBUFFERS.pack(count, kind, abi.MMAP, 0, 0))
        fcntl.ioctl(self.fd, abi.REQBUFS, request)
        given = abi.REQUESTBUFFERS.unpack(request)[0]
        if given < 2:
            raise OSError(errno.ENOMEM, f"the driver gives {given} buffers, and 2 are needed")
        self.regions = tuple(self._region(slot) for slot in range(given))
        if min(length for _, length in self.regions) < least_bytes:
            raise OSError(errno.EINVAL, "the driver's buffers are too small for its format")
        self.memory = [
            mmap(self.fd, length, MAP_SHARED, PROT_READ | PROT_WRITE, offset=offset)
            for offset, length in self.regions
        ]
        self.lent = bytearray(given)
        self._planes = bytearray(abi.PLANE.size)
        self._blank = self._request(0, self._planes)
        self._buffer = bytearray(self._blank)
        self._plane_of = [bytearray(abi.PLANE.size) for _ in range(given)]
        self._requests = [self._request(slot, self._plane_of[slot]) for slot in range(given)]
        for each in self._requests:
            fcntl.ioctl(self.fd, abi.QBUF, each)
        waiter = select.poll()
        waiter.register(self.fd, select.POLLIN | (select.POLLPRI if self._subscribed() else 0))
        self.poll = waiter.poll
        """Wait for a filled buffer or an event: milliseconds -> [(fd, events)]."""
        fcntl.ioctl(self.fd, abi.STREAMON, abi.FORMAT_TYPE.pack(kind))

    def _subscribed(self) -> bool:
        """Whether the driver tells when its source changes, as one of an HDMI input does."""
        request = abi.EVENT_SUBSCRIPTION.pack(abi.EVENT_SOURCE_CHANGE)
        try:
            fcntl.ioctl(self.fd, abi.SUBSCRIBE_EVENT, request)
        except OSError:
            return False  # most cameras have no such event
        return True

    def _region(self, slot: int) -> tuple[int, int]:
        """(offset, bytes) of a buffer in the device file."""
        planes = bytearray(abi.PLANE.size)
        request = bytearray(self._request(slot, planes))
        fcntl.ioctl(self.fd, abi.QUERYBUF, request)
        if self._mplane:
            _, length, offset, _ = abi.PLANE.unpack(planes)
        else:
            *_, offset, length, _ = abi.BUFFER.unpack(request)
            offset &= 0xFFFFFFFF  # the other half of the field is of pointers
        return offset, length

    def _request(self, slot: int, planes: bytearray) -> bytes:
        address = _address(planes) if self._mplane else 0
        return abi.BUFFER.pack(
            slot, self._identity.buffer_type, 0, 0, abi.FIELD_NONE, 0, 0, 0, abi.MMAP,
            address, 1 if self._mplane else 0, 0,
        )  # fmt: skip


def _address(memory: bytearray) -> int:
    """Where `memory` lies; it must not grow, and must be kept."""
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
