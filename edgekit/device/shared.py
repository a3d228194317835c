"""Frames in memory that processes share: how they lie, and how nobody meets half of one.

One process publishes (`publish.py`, or a program in any language that keeps to this); any number of
others read (`shm://NAME`), without a copy. Linux only. The memory is the file
`/dev/shm/edgekit.NAME`, little-endian:

| at | type | what |
|---|---|---|
| 0 | 8 bytes | `EDGEKIT1` |
| 8 | u32 | slots, 2 to 64 |
| 12 | u32 | planes of a picture, 1 to 3 |
| 16 | 8 bytes | format: `RGB`, `BGR`, `GREY`, `YUYV`, `NV12`, `I420`, `MJPEG`, then zeros |
| 24 | u32, u32 | width, height in pixels |
| 32 | u32 | matrix: 601 or 709 |
| 36 | u32 | 1: full range |
| 40 | u32 | quarter turns counter-clockwise that put it upright |
| 48 | u64 | where slot 0's pixels begin |
| 56 | u64 | bytes from one slot to the next |
| 64 | u64 | bytes of pixels in a slot |
| 128 + 32 n | u64, 6 u32 | plane n: its offset in the slot, 3 of shape, 3 strides; 0: unused |
| 256 | u32 | frames published so far; a futex, woken for each |
| 260 | u32 | slot of the newest; stored together with the count, as one u64 |
| 512 + 32 n | u64 | slot n: state, odd while it is written |
| 520 + 32 n | u64 | its sequence number: every frame that was made counts, published or not |
| 528 + 32 n | i64 | when it was captured, CLOCK_MONOTONIC, ns |
| 536 + 32 n | u64 | bytes used of it (a JPEG's length) |

Who may touch what is held by locks of the kernel (`F_OFD_SETLK` on single bytes of the file), which
end with their process however it ends: byte 0 is locked by the publisher as long as it lives (and
written: exclusive), byte 1 + n exclusively while slot n is written, and shared while it is read. A
publisher takes a slot that is not the newest and that nobody reads; if there is none, the frame is
dropped.
"""

import ctypes
import fcntl
import mmap
import os
import platform
import re
import struct
import sys
import time
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np

from edgekit.device.picture import FORMATS, Layout, Matrix, Picture, PixelFormat, layout
from edgekit.errors import SourceUnavailable, SpecError

MAGIC = b"EDGEKIT1"
MOST_SLOTS = 64
_HEADER = struct.Struct("<8sII8sIIIII4xQQQ")
_PLANE = struct.Struct("<Q6I")
_PLANES, _NEWEST, _SLOTS, _DATA = 128, 256, 512, 4096
STATE, SEQUENCE, CAPTURED, USED = range(4)
"""Numbers of a slot, in `Shared.slot`."""
_LOCK = struct.Struct("@hhqqi4x")  # struct flock
_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98}.get(platform.machine(), 0)
_WAIT, _WAKE = 0, 1


def path_of(name: str) -> Path:
    """The file of the frames called `name`.

    Raises:
        SpecError: it is no name, or has characters that a file's name should not have.
        SourceUnavailable: this is not Linux.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name):
        raise SpecError(
            f"'{name}' is no name for shared frames; use letters, digits, '.', '-' and '_', "
            "as in shm://door"
        )
    if not sys.platform.startswith("linux"):
        raise SourceUnavailable("shm:// works on Linux only; use a file or rtsp:// here")
    return Path(f"/dev/shm/edgekit.{name}")


class Shared:
    """A mapped file of frames. Holds a file descriptor, and a mapping as long as anybody looks."""

    def __init__(self, fd: int, writable: bool) -> None:
        """Map it; `fd` is ours from here on.

        Raises:
            SpecError: it does not hold frames in this form.
        """
        self.fd = fd
        try:
            size = os.fstat(fd).st_size
            if size < _DATA:
                raise SpecError("it is too short to hold frames")
            access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
            self.memory = mmap.mmap(fd, size, access=access)
            self.slots, self._step, self.layout = _parse(self.memory)
        except BaseException:
            os.close(fd)
            raise
        self._words = np.frombuffer(self.memory, np.uint64, _DATA // 8)
        self.slot = self._words[_SLOTS // 8 :][: self.slots * 4].reshape(self.slots, 4)
        """(slots, 4) uint64: `STATE`, `SEQUENCE`, `CAPTURED`, `USED`."""

    @property
    def newest(self) -> tuple[int, int]:
        """(frames published so far, modulo 2^32; slot of the newest), read at once."""
        word = int(self._words[_NEWEST // 8])
        return word & 0xFFFFFFFF, word >> 32

    def publish(self, slot: int) -> None:
        """Say that `slot` is the newest, and wake who waits."""
        count = (self.newest[0] + 1) & 0xFFFFFFFF
        self._words[_NEWEST // 8] = count | slot << 32
        if _FUTEX:
            _syscall(self._words, _WAKE, 2**31 - 1, None)

    def wait(self, count: int, seconds: float) -> None:
        """Wait until more than `count` frames are published, at most so long; may end early."""
        if _FUTEX:
            _syscall(self._words, _WAIT, count, seconds)
        else:
            time.sleep(min(seconds, 0.001))

    def offset(self, slot: int) -> int:
        """Where the pixels of a slot begin."""
        return _DATA + slot * self._step

    def picture(self, slot: int) -> Picture:
        """The pixels of a slot, not copied."""
        pixels = memoryview(self.memory)[self.offset(slot) :]
        return self.layout.over(pixels, int(self.slot[slot, USED]))

    def lock(self, byte: int, exclusive: bool) -> bool:
        """Lock 0 (alive) or 1 + slot, without waiting; whether that worked."""
        return _set_lock(self.fd, byte, fcntl.F_WRLCK if exclusive else fcntl.F_RDLCK)

    def unlock(self, byte: int) -> None:
        """Let go of a lock."""
        _set_lock(self.fd, byte, fcntl.F_UNLCK)

    @property
    def alive(self) -> bool:
        """Whether a publisher holds the file."""
        asked = _LOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 1, 0)
        answer = fcntl.fcntl(self.fd, fcntl.F_OFD_GETLK, asked)
        return bool(_LOCK.unpack(answer)[0] != fcntl.F_UNLCK)

    def close(self) -> None:
        """Let go of all locks. The mapping stays as long as a picture of it is in use."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def create(path: Path, picture: Layout, slots: int, mode: int) -> Shared:
    """Make the file of a publisher, in place of one whose publisher ended.

    Raises:
        OSError: as the system raises it.
    """
    step = -(-picture.nbytes // _DATA) * _DATA
    header = bytearray(_DATA)
    _HEADER.pack_into(
        header, 0, MAGIC, slots, len(picture.planes), picture.format.encode(), picture.width,
        picture.height, 709 if picture.matrix == "bt709" else 601, picture.full_range,
        picture.turns, _DATA, step, picture.nbytes,
    )  # fmt: skip
    for n, (offset, shape, strides) in enumerate(picture.planes):
        numbers = [*shape, *[0] * (3 - len(shape)), *strides, *[0] * (3 - len(strides))]
        _PLANE.pack_into(header, _PLANES + 32 * n, offset, *numbers)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.posix_fallocate(fd, 0, _DATA + slots * step)  # a full disk is met here, not by SIGBUS
        os.write(fd, header)
        _set_lock(fd, 0, fcntl.F_WRLCK)  # alive, before anybody can look
        os.rename(beside, path)
    except BaseException:
        os.close(fd)
        beside.unlink(missing_ok=True)
        raise
    return Shared(fd, writable=True)


def open_existing(path: Path) -> Shared:
    """Map the file of a publisher, to read.

    Raises:
        OSError: as the system raises it.
        SpecError: it does not hold frames in this form.
    """
    return Shared(os.open(path, os.O_RDONLY | os.O_CLOEXEC), writable=False)


def published(path: Path) -> bool:
    """Whether somebody publishes there."""
    try:
        shared = open_existing(path)
    except (OSError, SpecError):
        return False
    alive = shared.alive
    shared.close()
    return alive


def _parse(memory: mmap.mmap) -> tuple[int, int, Layout]:
    """(slots, bytes from one to the next, how a picture lies); all of it fits in the file.

    Raises:
        SpecError: it does not.
    """
    (magic, slots, planes, name, width, height, matrix, full, turns, data, step, nbytes) = (
        _HEADER.unpack_from(memory)
    )
    of = name.rstrip(b"\0").decode("ascii", "replace")
    if magic != MAGIC or of not in FORMATS or data != _DATA:
        raise SpecError("it holds no frames, or those of another version of edgekit")
    if not (2 <= slots <= MOST_SLOTS and 0 < width < 2**15 and 0 < height < 2**15 and turns < 4):
        raise SpecError(f"it says {slots} slots of {width}x{height} pixels, which cannot be")
    if not nbytes <= step or _DATA + slots * step > len(memory):
        raise SpecError("it is shorter than it says")
    usual = layout(cast(PixelFormat, of), width, height, nbytes=nbytes if of == "MJPEG" else 0)
    found = []
    for n in range(min(planes, 3)):
        offset, *numbers = _PLANE.unpack_from(memory, _PLANES + 32 * n)
        dimensions = next((d for d in (1, 2, 3) if d == 3 or not numbers[d]), 3)
        shape, strides = tuple(numbers[:dimensions]), tuple(numbers[3 : 3 + dimensions])
        last = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if min(shape) < 1 or offset + last >= nbytes:
            raise SpecError("a plane of it does not fit into its slot")
        found.append((offset, shape, strides))
    if [(it[1], it[2][1:]) for it in found] != [(it[1], it[2][1:]) for it in usual.planes]:
        raise SpecError(f"its planes are not those of {width}x{height} pixels {of}")
    rules: Matrix = "bt709" if matrix == 709 else "bt601"
    made = Layout(usual.format, width, height, tuple(found), nbytes, rules, bool(full), turns)
    return slots, step, made


def _set_lock(fd: int, byte: int, kind: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _LOCK.pack(kind, os.SEEK_SET, byte, 1, 0))
    except (BlockingIOError, PermissionError):  # EAGAIN, EACCES: somebody has it
        return False
    return True


def _syscall(words: np.ndarray, operation: int, value: int, seconds: float | None) -> None:
    """futex(2) on the count of frames; whatever it says, the caller looks again."""
    timeout = None
    if seconds is not None:
        whole = int(seconds)
        timeout = (ctypes.c_int64 * 2)(whole, int((seconds - whole) * 1e9))
    address = ctypes.c_void_p(words.ctypes.data + _NEWEST)
    _libc().syscall(
        ctypes.c_long(_FUTEX), address, ctypes.c_int(operation), ctypes.c_uint32(value), timeout
    )


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
