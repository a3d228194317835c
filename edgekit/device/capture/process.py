"""The process that reads a camera for another one: see `apart.py`.

A thread reads and keeps the newest frame; the main thread gives it away when it is asked.
"""

import dataclasses
import json
import mmap
import os
import socket
import threading
import time
from contextlib import suppress

import numpy as np

from edgekit.device.capture import apart
from edgekit.device.capture.slots import Latest
from edgekit.device.child import as_news
from edgekit.device.copies import Kind
from edgekit.device.frame import Camera, Frame, Shareable
from edgekit.device.picture import Layout, Picture, layout
from edgekit.device.shown import shown
from edgekit.device.uri import open_raw
from edgekit.errors import EdgekitError, SourceUnavailable

_SLOTS = 3
"""Of memory for copies: one in use, one that is written, one to spare."""


def serve(descriptor: int) -> None:
    """Read a source for whoever holds the other end of the socket, and says which; never returns.

    A source that cannot be opened, or gives no first frame, is told, and the next message may name
    it again.
    """
    connection = socket.socket(fileno=descriptor)
    with suppress(OSError, KeyboardInterrupt):  # the other side is gone
        while message := connection.recv(apart.LONGEST):
            server = _opened(connection, message[1:].decode())
            if server is not None:
                server.run()
                break
    os._exit(0)  # at once, whatever hangs in a driver; the system frees the camera


def _opened(connection: socket.socket, text: str) -> "_Server | None":
    """The camera, opened and told of; None if that failed, and was told."""
    try:
        camera = open_raw(text)
    except Exception as error:
        connection.send(_failed(text, error))
        return None
    try:
        return _Server(connection, camera, text)
    except OSError:
        raise
    except Exception as error:
        camera.close()
        connection.send(_failed(text, error))
        return None


def _failed(text: str, error: Exception) -> bytes:
    """What is told of an error. One that is not ours is a fault of a library: a camera is gone."""
    if not isinstance(error, EdgekitError):
        error = SourceUnavailable(f"reading {shown(text)} failed: {type(error).__name__}: {error}")
    return b"X" + json.dumps(as_news(error)).encode()


class _Server:
    def __init__(self, connection: socket.socket, camera: Camera, text: str) -> None:
        self._connection, self._camera, self._text = connection, camera, text
        self._newest, self._read_ns = Latest(), 0
        self._keys: list[tuple[Kind, str]] = []
        first = camera.read()
        if first is None:
            raise SourceUnavailable("the source ended before its first frame")
        self._lender: _Mapped | _Copied = (
            _Mapped(camera)
            if first.slot >= 0 and isinstance(camera, Shareable)
            else _Copied(camera, first.picture)
        )
        hello = {
            "deadline_s": min(camera.deadline_s, 3600.0),
            "again": getattr(camera, "again", text),
            "layout": dataclasses.asdict(self._lender.layout),
            "regions": self._lender.regions,
        }
        socket.send_fds(connection, [b"H" + json.dumps(hello).encode()], [self._lender.fd])
        self._newest.put(first)

    def run(self) -> None:
        """Answer until the other side goes away or the source ends or fails."""
        try:
            self._serve()
        except OSError:
            raise
        except Exception as error:
            # The other side may hold a frame, whose mapping keeps the device open: only this makes
            # the driver let another one stream.
            self._camera.close()
            self._connection.send(_failed(self._text, error))

    def _serve(self) -> None:
        threading.Thread(target=self._capture, name="capture", daemon=True).start()
        message = bytearray(apart.ASK.size)
        while self._connection.recv_into(message):
            what, slot = apart.ASK.unpack_from(message)
            if what == b"R":
                self._lender.released(slot)
            elif (frame := self._newest.take(float("inf"))) is None:
                self._connection.send(b"E")
            else:
                self._give(frame)

    def _give(self, frame: Frame) -> None:
        slot, used = self._lender.lend(frame)
        counted = tuple(self._camera.copies.by_reason)
        if len(counted) != len(self._keys):
            self._keys = [*counted][: apart.REASONS]
            self._connection.send(b"K" + json.dumps(self._keys).encode())
        counts = [self._camera.copies.by_reason[key] for key in self._keys]
        counts += [0] * (apart.REASONS - len(counts))
        self._connection.send(
            apart.FRAME.pack(
                b"F", slot, used, frame.sequence, frame.captured_ns, frame.time_s, self._read_ns,
                *counts,
            )
        )  # fmt: skip

    def _capture(self) -> None:
        error: BaseException | None = None
        try:
            while True:
                started = time.perf_counter_ns()
                frame = self._camera.read()
                if frame is None:
                    break
                self._read_ns = time.perf_counter_ns() - started
                self._newest.put(frame)
        except BaseException as failure:  # raised again in the main thread, by `take`
            error = failure
        self._newest.end(error)


class _Mapped:
    """Frames of a camera whose memory the other side maps: only their number goes over."""

    def __init__(self, camera: Shareable) -> None:
        self.layout, self.fd, self.regions = camera.layout, camera.fd, camera.regions
        self._lent: dict[int, Frame] = {}

    def lend(self, frame: Frame) -> tuple[int, int]:
        self._lent[frame.slot] = frame
        return frame.slot, frame.picture.planes[0].size if self.layout.format == "MJPEG" else 0

    def released(self, slot: int) -> None:
        self._lent.pop(slot).release()


class _Copied:
    """Frames of other cameras, copied into memory that both sides map."""

    def __init__(self, camera: Camera, picture: Picture) -> None:
        self._camera = camera
        self.layout = _room_for(picture)
        size = -(-self.layout.nbytes // os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PAGE_SIZE")
        self.fd = os.memfd_create("edgekit-frames")
        os.ftruncate(self.fd, size * _SLOTS)
        self.regions = tuple((n * size, self.layout.nbytes) for n in range(_SLOTS))
        memory = np.frombuffer(mmap.mmap(self.fd, size * _SLOTS), np.uint8)
        self._views = [self.layout.over(memory[start:], size) for start, _ in self.regions]
        self._free = [*range(_SLOTS)]

    def lend(self, frame: Frame) -> tuple[int, int]:
        with frame:
            picture = frame.picture
            if not _fits(picture, self.layout):
                raise SourceUnavailable(
                    f"the camera changed its picture from {self.layout.width}x{self.layout.height} "
                    f"{self.layout.format} to {picture.width}x{picture.height} {picture.format}"
                )
            slot = self._free.pop()
            used = 0
            for plane, room in zip(picture.planes, self._views[slot].planes, strict=True):
                # A copy of the whole frame: this camera's memory belongs to this process alone.
                np.copyto(room[: len(plane)], plane)
                self._camera.copies.add("frame", "to the process that infers", plane.nbytes)
                used = plane.nbytes
            return slot, used

    def released(self, slot: int) -> None:
        self._free.append(slot)


def _room_for(picture: Picture) -> Layout:
    """A layout like that of `picture`, rows side by side; of a JPEG, four times as long."""
    room = layout(
        picture.format, picture.width, picture.height, nbytes=4 * picture.planes[0].size,
        matrix=picture.matrix, full_range=picture.full_range,
    )  # fmt: skip
    return dataclasses.replace(room, turns=picture.turns)


def _fits(picture: Picture, room: Layout) -> bool:
    same = (picture.format, picture.width, picture.height) == (
        room.format, room.width, room.height,
    )  # fmt: skip
    return same and (room.format != "MJPEG" or picture.planes[0].size <= room.nbytes)
