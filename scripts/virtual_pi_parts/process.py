"""One program for aarch64 as a process of this machine: quick, without a kernel or a camera."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.virtual_pi_parts.machine import TIMED_OUT, environment
from scripts.virtual_pi_parts.programs import need
from scripts.virtual_pi_parts.root import python_version

QEMU = ("qemu-aarch64-static", "qemu-user-static")
"""The program, and the Debian package that brings it."""


def run(root: Path, command: Sequence[str], timeout_s: float) -> int:
    """Run `python ...`, `edgekit ...`, or a program of the root, under the emulated processor.

    It sees this machine's files and network; of a file that is in the root as well, the root's.

    Returns:
        Its exit code, or `TIMED_OUT`.

    Raises:
        MissingProgram: there is no QEMU.
    """
    qemu = need(*QEMU)
    program, *arguments = command
    python = str(root / "usr/bin" / f"python{python_version(root)}")
    if program in ("python", "python3"):
        program = python
    elif program == "edgekit":
        program = python
        arguments = ["-c", "from edgekit.cli.main import main; main()", *arguments]
    else:
        program = str(root / "usr/bin" / program)
    line = [qemu, "-cpu", "cortex-a72", "-L", str(root), program, *arguments]
    inherited = {name: os.environ[name] for name in ("HOME", "PATH", "TERM") if name in os.environ}
    try:
        return subprocess.run(
            line, env={**inherited, **environment(str(root))}, timeout=timeout_s, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        print(f"virtual_pi: ended after {timeout_s:g} s (--timeout)", file=sys.stderr)
        return TIMED_OUT
