"""A camera's controls: brightness, exposure and the like, by the names that `v4l2-ctl` gives."""

import errno
import fcntl
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgekit.device.cameras import _v4l2_abi as abi
from edgekit.errors import SourceUnavailable, SpecError, UnknownName

_MOST_CONTROLS = 1024
_MOST_ITEMS = 256


@dataclass(frozen=True, slots=True)
class Control:
    """One control that can be set to a whole number."""

    number: int
    name: str
    least: int
    most: int
    step: int
    default: int
    items: Mapping[int, str]
    """Of a menu; else empty."""

    def __str__(self) -> str:
        if self.items:
            return f"{self.name} ({', '.join(f'{n}: {name}' for n, name in self.items.items())})"
        step = f" in steps of {self.step}" if self.step > 1 else ""
        return f"{self.name} ({self.least} to {self.most}{step})"


def controls(fd: int) -> dict[str, Control]:
    """The controls of an open camera, by name."""
    return {control.name: control for control in _controls(fd)}


def set_controls(fd: int, card: str, wishes: Mapping[str, str]) -> None:
    """Set controls in the order given.

    Args:
        fd: of an open camera.
        card: its name, for messages.
        wishes: name -> a whole number, or the name of a menu's item.

    Raises:
        UnknownName: the camera has no such control.
        SpecError: out of range.
        SourceUnavailable: the camera refuses.
    """
    if not wishes:
        return
    known = controls(fd)
    for name, text in wishes.items():
        if name not in known:
            raise UnknownName(f"control of {card}", name, map(str, known.values()))
        control = known[name]
        value = _value(control, text)
        try:
            fcntl.ioctl(fd, abi.S_CTRL, bytearray(abi.CONTROL.pack(control.number, value)))
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ERANGE):
                raise SpecError(_out_of_range(control, text)) from error
            why = (
                "another control holds it, as an automatic one does; set that first"
                if error.errno in (errno.EACCES, errno.EBUSY)
                else error.strerror
            )
            raise SourceUnavailable(
                f"{card} does not let {name} be set to {text}: {why}"
            ) from error


def _value(control: Control, text: str) -> int:
    for number, item in control.items.items():
        if _plain(item) == _plain(text):
            return number
    try:
        value = int(text)
    except ValueError:
        raise SpecError(_out_of_range(control, text)) from None
    fits = value in control.items if control.items else control.least <= value <= control.most
    if not fits or (value - control.least) % control.step:
        raise SpecError(_out_of_range(control, text))
    return value


def _out_of_range(control: Control, text: str) -> str:
    return f"a control cannot be set to '{text}': {control}, at first {control.default}"


def _controls(fd: int) -> Iterator[Control]:
    request = bytearray(abi.QUERYCTRL.size)
    number = 0
    for _ in range(_MOST_CONTROLS):
        abi.QUERYCTRL.pack_into(request, 0, number | abi.CTRL_NEXT, 0, b"", 0, 0, 0, 0, 0)
        try:
            fcntl.ioctl(fd, abi.QUERY_CTRL, request)
        except OSError:
            return  # the end of the list
        number, kind, raw, least, most, step, default, flags = abi.QUERYCTRL.unpack(request)
        if flags & (abi.CTRL_FLAG_DISABLED | abi.CTRL_FLAG_READ_ONLY):
            continue
        name = _plain(raw.partition(b"\0")[0].decode("utf-8", "replace"))
        if kind == abi.CTRL_BUTTON:
            least, most = 0, 1
        if kind in (
            abi.CTRL_INTEGER, abi.CTRL_BOOLEAN, abi.CTRL_MENU, abi.CTRL_BUTTON,
            abi.CTRL_INTEGER_MENU,
        ):  # fmt: skip
            items = dict(_items(fd, number, least, most)) if kind == abi.CTRL_MENU else {}
            yield Control(number, name, least, most, max(step, 1), default, items)


def _items(fd: int, number: int, least: int, most: int) -> Iterator[tuple[int, str]]:
    for index in range(least, min(most, least + _MOST_ITEMS) + 1):
        request = bytearray(abi.QUERYMENU.pack(number, index, b""))
        try:
            fcntl.ioctl(fd, abi.QUERY_MENU, request)
        except OSError:
            continue  # a gap in the menu
        raw = abi.QUERYMENU.unpack(request)[2]
        yield index, raw.partition(b"\0")[0].decode("utf-8", "replace")


def _plain(name: str) -> str:
    """`Exposure Time, Absolute` -> `exposure_time_absolute`, as v4l2-ctl writes it."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
