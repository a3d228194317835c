"""The Pi's file system: Debian's Python for arm64, and the wheels of edgekit's device extras."""

import compileall
import json
import platform
import py_compile
import re
import sys
import tempfile
from pathlib import Path

from scripts.virtual_pi_parts import wheels
from scripts.virtual_pi_parts.cache import cached
from scripts.virtual_pi_parts.debian import ARCHITECTURE, Apt, unpack
from scripts.virtual_pi_parts.place import REPOSITORY

SITE = "opt/edgekit"
"""Where the wheels lie in the root."""
_PACKAGES = ("busybox-static", "libpython3-stdlib", "libstdc++6", "python3-minimal", "v4l-utils")
_FORM = 1  # counts up when what is made here changes its form

# What a Raspberry Pi 4 says of one of its cores. Libraries read this file to choose their kernels;
# under `process.py` they would otherwise read this machine's, and some crash on it.
_CORE = """processor\t: {}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""


def root() -> Path:
    """The file system's folder, from the cache or made now (200 MB of downloads, two minutes)."""
    wanted = wheels.requirements(REPOSITORY / "pyproject.toml")
    made_of = json.dumps([_FORM, ARCHITECTURE, _PACKAGES, wanted, platform.python_version()])

    def make(folder: Path) -> None:
        print(f"virtual_pi: making an {ARCHITECTURE} system in {folder.parent}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as scratch:
            for package in Apt(Path(scratch)).fetch(_PACKAGES):
                unpack(package, folder)
        wheels.install(wanted, python_version(folder), folder / SITE)
        (folder / "proc").mkdir(exist_ok=True)
        (folder / "proc/cpuinfo").write_text("".join(_CORE.format(core) for core in range(4)))
        _compile(folder)

    return cached("root", made_of, make)


def python_version(root: Path) -> str:
    """The root's Python, as "3.11"."""
    (found,) = (
        name
        for path in root.glob("usr/bin/python3.*")
        if re.fullmatch(r"python3\.\d+", name := path.name)
    )
    return found.removeprefix("python")


def _compile(root: Path) -> None:
    """Compile its Python files, which nobody can do later in a root that is only read.

    Byte code belongs to a minor version of Python; where this Python is of another, the Pi compiles
    for itself, at every start.
    """
    version = python_version(root)
    if version != ".".join(map(str, sys.version_info[:2])):
        return
    for folder in (root / "usr/lib" / f"python{version}", root / SITE):
        compileall.compile_dir(
            folder,
            quiet=2,
            rx=re.compile(r"/(tests?|site-packages)/"),
            workers=0,
            stripdir=str(root),
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
