"""Bytes copied per frame, counted where they are copied.

Every line of the device half that writes pixel bytes calls `add` beside it. Four kinds are kept
apart, because only one of them cannot be avoided:

- `input`: written into the model's own input memory (resize, colour order). The floor.
- `frame`: whole frames copied or converted between the camera and the resize. The waste.
- `output`: copies of the model's outputs, handed to the caller.
- `display`: pixels drawn, encoded or shown, for people.

What a codec, a driver or a runtime copies inside itself is not seen from here and not counted.
"""

from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["input", "frame", "output", "display"]
KINDS: tuple[Kind, ...] = ("input", "frame", "output", "display")


class Copies:
    """A counter of bytes, per kind and per reason. One thread adds; any thread may read."""

    def __init__(self) -> None:
        self.by_reason: dict[tuple[Kind, str], int] = {}

    def add(self, kind: Kind, reason: str, nbytes: int) -> None:
        """Count `nbytes` bytes written because of `reason`."""
        key = (kind, reason)
        self.by_reason[key] = self.by_reason.get(key, 0) + nbytes

    def include(self, other: "Copies") -> None:
        """Count what `other` counted, too."""
        for (kind, reason), nbytes in tuple(other.by_reason.items()):
            self.add(kind, reason, nbytes)

    def total(self, kind: Kind) -> int:
        """Bytes of one kind so far."""
        return sum(n for (k, _), n in tuple(self.by_reason.items()) if k == kind)


class _Uncounted(Copies):
    def add(self, kind: Kind, reason: str, nbytes: int) -> None:
        """Forget it."""


UNCOUNTED: Copies = _Uncounted()
"""For callers that do not count: building, calibration, training."""
