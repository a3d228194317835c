"""Walk a flatbuffer without its schema, and without the package that wrote it.

https://flatbuffers.dev/internals: a table begins with the distance back to its vtable, which has
one offset for each field; vectors, strings and tables are reached by an offset from where it lies.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """One table; fields are numbered from 0, a union takes two numbers: its kind and its value.

    Every method raises ValueError where the bytes are no such thing.
    """

    content: memoryview
    position: int

    @classmethod
    def root(cls, content: memoryview) -> "Table":
        """The first table of a file."""
        return cls(content, _unsigned(content, 0))

    def number(self, field: int, width: int = 4) -> int:
        """An unsigned integer of `width` bytes; 0 where it is left out."""
        at = self._at(field)
        return _unsigned(self.content, at, width) if at else 0

    def bytes(self, field: int) -> memoryview:
        """A string, or a vector of bytes; empty where it is left out."""
        at = self._at(field)
        if not at:
            return self.content[:0]
        start = at + _unsigned(self.content, at)
        size = _unsigned(self.content, start)
        return self.content[start + 4 : start + 4 + size]

    def numbers(self, field: int, width: int = 4) -> list[int]:
        """A vector of unsigned integers; none where it is left out."""
        at = self._at(field)
        if not at:
            return []
        start = at + _unsigned(self.content, at)
        end = start + 4 + width * _unsigned(self.content, start)
        return [_unsigned(self.content, entry, width) for entry in range(start + 4, end, width)]

    def text(self, field: int) -> str:
        """The same, as text."""
        return str(self.bytes(field), "utf-8")

    def table(self, field: int) -> "Table":
        """A table that must be there."""
        at = self._at(field)
        if not at:
            raise ValueError(f"field {field} is missing")
        return Table(self.content, at + _unsigned(self.content, at))

    def tables(self, field: int) -> Iterator["Table"]:
        """A vector of tables; none where it is left out."""
        at = self._at(field)
        if at:
            start = at + _unsigned(self.content, at)
            for entry in range(start + 4, start + 4 + 4 * _unsigned(self.content, start), 4):
                yield Table(self.content, entry + _unsigned(self.content, entry))

    def _at(self, field: int) -> int:
        """Where a field lies; 0 where it is left out."""
        vtable = self.position - _signed(self.content, self.position)
        slot = 4 + 2 * field
        if slot >= _unsigned(self.content, vtable, 2):
            return 0
        offset = _unsigned(self.content, vtable + slot, 2)
        return self.position + offset if offset else 0


def _unsigned(content: memoryview, at: int, width: int = 4) -> int:
    if not 0 <= at <= len(content) - width:
        raise ValueError(f"an offset leads outside of it, to byte {at}")
    return int.from_bytes(content[at : at + width], "little")


def _signed(content: memoryview, at: int) -> int:
    _unsigned(content, at)
    return int(struct.unpack_from("<i", content, at)[0])
