"""The archive that Linux starts from (an initramfs), in cpio's "newc" form.

The form is described in the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

import stat
from pathlib import Path
from typing import IO


class Archive:
    """Writes an archive; folders above a file are written before it."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out, self._written, self._inode = out, {"."}, 0

    def folder(self, path: str) -> None:
        """A folder and those above it; again does nothing."""
        path = path.strip("/") or "."
        if path in self._written:
            return
        self.folder(str(Path(path).parent))
        self._entry(path, stat.S_IFDIR | 0o755, b"")

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """A file."""
        self.folder(str(Path(path.strip("/")).parent))
        self._entry(path.strip("/"), stat.S_IFREG | mode, content)

    def device(self, path: str, major: int, minor: int) -> None:
        """A character device."""
        self.folder(str(Path(path.strip("/")).parent))
        self._entry(path.strip("/"), stat.S_IFCHR | 0o600, b"", (major, minor))

    def tree(self, source: Path, path: str) -> None:
        """A folder with all that is in it, without Python's byte code."""
        self.folder(path)
        for below in sorted(source.rglob("*")):
            if "__pycache__" in below.parts or not below.is_file():
                continue
            mode = 0o755 if below.stat().st_mode & 0o100 else 0o644
            self.file(f"{path}/{below.relative_to(source)}", below.read_bytes(), mode)

    def close(self) -> None:
        """Write the end mark."""
        self._entry("TRAILER!!!", 0, b"")

    def _entry(
        self, name: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)
    ) -> None:
        self._written.add(name)
        self._inode += 1
        encoded = name.encode() + b"\0"
        # inode, mode, uid, gid, links, mtime, size, device of the file, device it is, name, check
        numbers = (self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0)
        head = b"070701" + b"".join(b"%08X" % number for number in numbers) + encoded
        self._out.write(head + b"\0" * (-len(head) % 4))
        self._out.write(content + b"\0" * (-len(content) % 4))
