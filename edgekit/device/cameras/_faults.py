"""The faults that a synthetic camera can be given: `fault=stall:90:3,unplug:300`."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from edgekit.device.uri import Uri, number
from edgekit.errors import SpecError, UnknownName

Kind: TypeAlias = Literal["stall", "hang", "unplug", "error", "short", "back", "format"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_SECONDS: dict[str, float] = {"stall": 3600.0, "back": 1.0}
"""The faults that take a length, and how long they are if none is given."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong with one frame."""

    kind: Kind
    at: int
    """At which frame, from 0."""
    seconds: float
    """How long it lasts; 0 for those that have no length."""


def faults_of(uri: Uri) -> tuple[Fault, ...]:
    """The option `fault`: `KIND:AT` or `KIND:AT:SECONDS`, several with commas between them.

    Raises:
        UnknownName: no such kind of fault.
        SpecError: not written like that.
    """
    given = uri.options.get("fault", "")
    return tuple(_fault(uri, text) for text in given.split(",")) if given else ()


def _fault(uri: Uri, text: str) -> Fault:
    kind, *numbers = text.split(":")
    if kind not in KINDS:
        raise UnknownName("fault", kind, KINDS)
    if not 1 <= len(numbers) <= (2 if kind in _SECONDS else 1):
        form = f"{kind}:FRAME" + (f" or {kind}:FRAME:SECONDS" if kind in _SECONDS else "")
        raise SpecError(f"the fault '{text}' of '{uri.text}' must be {form}, as {kind}:100")
    at = int(number(uri, f"the frame of {kind}", numbers[0], 0, 1e9))
    seconds = _SECONDS.get(kind, 0.0)
    if len(numbers) == 2:
        seconds = number(uri, f"the seconds of {kind}", numbers[1], 0, 3600)
    return Fault(kind, at, seconds)
