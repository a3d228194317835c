"""Debian's arm64 kernel, and of its modules those that the emulated machine needs."""

import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import EdgekitError
from scripts.virtual_pi_parts.cache import cached
from scripts.virtual_pi_parts.debian import Apt, unpack

_MODULES = ("virtio_pci", "virtio_mmio", "virtio_console", "9pnet_virtio", "9p", "vivid")
_FORM = 1  # counts up when what is made here changes its form


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel and the modules to insert, in that order."""

    image: Path
    modules: tuple[Path, ...]


def kernel() -> Kernel:
    """From the cache, or made now (60 MB of downloads)."""

    def make(folder: Path) -> None:
        print("virtual_pi: fetching a kernel", file=sys.stderr)
        with tempfile.TemporaryDirectory() as scratch:
            apt, unpacked = Apt(Path(scratch)), Path(scratch, "kernel")
            unpacked.mkdir()
            name = apt.depends("linux-image-arm64", r"linux-image-\d\S*-arm64")
            unpack(apt.fetch_only(name), unpacked)
            (image,) = unpacked.glob("boot/vmlinuz-*")
            image.replace(folder / "vmlinuz")
            (modules,) = unpacked.glob("**/lib/modules/*")
            for number, module in enumerate(in_order(modules, _MODULES)):
                module.replace(folder / f"{number:02d}-{module.name}")

    folder = cached("kernel", f"{_FORM} {_MODULES}", make)
    return Kernel(folder / "vmlinuz", tuple(sorted(folder.glob("*.ko"))))


def in_order(modules: Path, wanted: tuple[str, ...]) -> list[Path]:
    """The files of modules and of those that they need, each after what it needs.

    Args:
        modules: the kernel's folder of modules.
        wanted: their names; one that is built into the kernel needs no file.

    Raises:
        EdgekitError: the kernel has no such module.
    """
    files = {_name(path.stem): path for path in modules.rglob("*.ko")}
    built_in = {
        _name(Path(line).stem) for line in (modules / "modules.builtin").read_text().split()
    }
    order: dict[str, Path] = {}
    for name in wanted:
        _add(_name(name), files, built_in, order)
    return list(order.values())


def _add(name: str, files: dict[str, Path], built_in: set[str], order: dict[str, Path]) -> None:
    if name in order or name in built_in:
        return
    if name not in files:
        raise EdgekitError(f"this kernel has no module {name}")
    # A module's ELF section .modinfo holds zero-terminated texts, `depends=a,b` among them.
    found = re.search(rb"\0depends=([^\0]*)\0", files[name].read_bytes())
    for needed in found[1].decode().split(",") if found and found[1] else ():
        _add(_name(needed), files, built_in, order)
    order[name] = files[name]


def _name(text: str) -> str:
    return text.replace("-", "_")
