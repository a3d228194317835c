"""One V4L2 device file: found, opened, and asked; what is wrong with it is said in words."""

import errno
import fcntl
import os
import stat
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgekit.device.cameras import _v4l2_abi as abi
from edgekit.errors import SourceUnavailable

_NUMBERS = range(64)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a driver says of its device."""

    path: str
    driver: str
    card: str
    """Its name for people, as `HD Pro Webcam C920`."""
    bus: str
    """Where it is plugged in, as `usb-0000:01:00.0-1.3`."""
    buffer_type: int
    """0: it gives no pictures (a camera's metadata, a decoder, a radio)."""
    streams: bool
    """Whether its buffers can be mapped."""


def identities() -> tuple[Identity, ...]:
    """The V4L2 devices that are there and may be opened, by number."""
    return tuple(_identities())


def open_device(path: str) -> tuple[int, Identity]:
    """Open a camera; the caller closes the file descriptor, which never blocks.

    Raises:
        SourceUnavailable: no such device, no permission, busy, or not a camera.
    """
    if sys.platform != "linux" or struct.calcsize("P") != 8:
        raise SourceUnavailable(
            "v4l2:// is for 64-bit Linux; elsewhere give webcam://, or a system of 64 bits"
        )
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISCHR(mode):
            raise SourceUnavailable(f"{path} is not a camera device; give one like /dev/video0")
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(path, error) from error
    try:
        identity = _identity(fd, path)
        if not (identity.buffer_type and identity.streams):
            raise SourceUnavailable(_no_camera(identity))
    except OSError as error:
        os.close(fd)
        raise SourceUnavailable(
            f"{path} is no V4L2 device ({error.strerror}); give one like /dev/video0"
        ) from error
    except BaseException:
        os.close(fd)
        raise
    return fd, identity


def find(path: str, card: str, bus: str) -> str:
    """The device that was at `path` and may have been plugged in again under another number.

    Args:
        path: where it was, and still is if what is there has the same name.
        card: its name; empty: take `path` as it is.
        bus: where it was plugged in; preferred among several of the same name.

    Raises:
        SourceUnavailable: no camera of that name.
    """
    if not card:
        return path
    same = [each for each in _identities() if each.card == card and each.buffer_type]
    if not same:
        raise SourceUnavailable(
            f"no camera {path} called '{card}'; connect it; cameras here: {_listed()}"
        )
    return min(same, key=lambda each: (each.bus != bus, each.path != path)).path


def busy(path: str) -> SourceUnavailable:
    """The error of a camera that another program uses."""
    users = ", ".join(_users(path))
    return SourceUnavailable(
        f"the camera {path} is busy: {f'{users} uses it' if users else 'another program uses it'}; "
        "end that, then start again (`fuser -v /dev/video*` lists the users of all)"
    )


def _identities() -> Iterator[Identity]:
    for number in _NUMBERS:
        path = f"/dev/video{number}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue  # not there, or not ours to open: it is a list of what can be used
        try:
            yield _identity(fd, path)
        except OSError:
            continue  # no V4L2 device
        finally:
            os.close(fd)


def _identity(fd: int, path: str) -> Identity:
    answer = bytearray(abi.CAPABILITY.size)
    fcntl.ioctl(fd, abi.QUERYCAP, answer)
    driver, card, bus, _, whole, own = abi.CAPABILITY.unpack(answer)
    caps = own if whole & abi.CAP_DEVICE_CAPS else whole
    buffer_type = (
        abi.CAPTURE
        if caps & abi.CAP_CAPTURE
        else abi.CAPTURE_MPLANE
        if caps & abi.CAP_CAPTURE_MPLANE
        else 0
    )
    driver, card, bus = (
        text.partition(b"\0")[0].decode("utf-8", "replace") for text in (driver, card, bus)
    )
    return Identity(path, driver, card, bus, buffer_type, bool(caps & abi.CAP_STREAMING))


def _refused(path: str, error: OSError) -> SourceUnavailable:
    if error.errno in (errno.EACCES, errno.EPERM):
        return SourceUnavailable(
            f"no permission to open {path}; add yourself to its group "
            "(`sudo usermod -aG video $USER`) and log in again"
        )
    if error.errno == errno.EBUSY:
        return busy(path)
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR):
        return SourceUnavailable(
            f"no camera {path} ({error.strerror}); connect one; cameras here: {_listed()}"
        )
    return SourceUnavailable(
        f"the camera {path} cannot be opened: {error.strerror}; unplug it and plug it in again"
    )


def _listed() -> str:
    found = [f"{each.path} ({each.card})" for each in _identities() if each.buffer_type]
    return ", ".join(found) or "none"


def _no_camera(identity: Identity) -> str:
    """Cameras have several device files: name the one with the pictures."""
    if identity.buffer_type:
        return f"the camera {identity.path} ({identity.card}) cannot stream into mapped memory"
    same = [
        each.path
        for each in _identities()
        if each.buffer_type and (each.card, each.bus) == (identity.card, identity.bus)
    ]
    meant = f"its pictures are at {same[0]}: give that" if same else f"cameras here: {_listed()}"
    return f"{identity.path} ({identity.card}) gives no pictures; {meant}"


def _users(path: str) -> Iterator[str]:
    """`name (PID)` of the processes that hold a device, of those that we may look into."""
    try:
        device = os.stat(path).st_rdev
    except OSError:
        return
    for process in Path("/proc").glob("[0-9]*"):
        try:
            files = os.listdir(process / "fd")
            if any(_device_of(f"{process}/fd/{file}") == device for file in files):
                own = process.name == str(os.getpid())
                name = "this program" if own else (process / "comm").read_text().strip()
                yield f"{name} (process {process.name})"
        except OSError:
            continue  # ended, or of another user


def _device_of(path: str) -> int:
    try:
        return os.stat(path).st_rdev
    except OSError:
        return -1  # closed in the meantime
