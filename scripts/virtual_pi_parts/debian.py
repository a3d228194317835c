"""Debian's packages for arm64, by apt with the system's own sources, beside the system's own state.

Nothing is installed and no architecture is added to this system; no root is needed. apt checks the
signatures and hashes.
"""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from edgekit.errors import EdgekitError, NetworkUnavailable
from scripts.virtual_pi_parts.programs import MissingProgram, need

ARCHITECTURE = "arm64"
_RELEASE = "12"
"""Other releases lay out their packages otherwise, and were not tried."""


class Apt:
    """apt with lists, state and downloads in `folder`, for a system where nothing is installed."""

    def __init__(self, folder: Path) -> None:
        for program in ("apt-get", "apt-cache", "dpkg-deb"):
            need(program, f"Debian {_RELEASE}, or a container of it")
        system = platform.freedesktop_os_release()
        if (system["ID"], system.get("VERSION_ID")) != ("debian", _RELEASE):
            raise MissingProgram(
                f"the emulated Pi is made of Debian {_RELEASE}'s packages with the apt of this "
                f"system, which is {system.get('PRETTY_NAME', system['ID'])}; run it in a "
                f"container of Debian {_RELEASE}"
            )
        self.downloads = folder / "archives"
        for below in ("state/lists/partial", "archives/partial"):
            (folder / below).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        settings = {
            "Dir::State": folder / "state",
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder,
            "APT::Architecture": ARCHITECTURE,
            "APT::Architectures::": ARCHITECTURE,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",  # the cache may lie where apt's own user may not write
            "APT::Get::List-Cleanup": "false",
        }
        self._options = [part for k, v in settings.items() for part in ("-o", f"{k}={v}")]
        self._run("apt-get", "--quiet", "update")

    def fetch(self, names: Iterable[str]) -> list[Path]:
        """The files of packages and of all that they depend on."""
        self._run("apt-get", "--quiet", "--assume-yes", "--download-only", "install", *names)
        return sorted(self.downloads.glob("*.deb"))

    def fetch_only(self, name: str) -> Path:
        """The file of one package, without what it depends on."""
        before = set(self.downloads.glob("*.deb"))
        self._run("apt-get", "--quiet", "download", name)
        (new,) = set(self.downloads.glob("*.deb")) - before
        return new

    def depends(self, name: str, pattern: str) -> str:
        """The one dependency of a package whose name is like `pattern`."""
        answer = self._run("apt-cache", "depends", name)
        if found := re.search(rf"^\s*Depends: ({pattern})$", answer, re.MULTILINE):
            return found[1]
        raise EdgekitError(f"{name} depends on nothing like {pattern}; apt-cache said: {answer}")

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [program, *self._options, *arguments],
            cwd=self.downloads,  # where `download` leaves its file
            env={**os.environ, "LC_ALL": "C"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            # A source of this system without arm64 fails `update`, and does not matter by itself.
            if arguments[-1] == "update":
                print("virtual_pi: apt-get update failed in part; going on", file=sys.stderr)
                return done.stdout
            raise NetworkUnavailable(
                f"{program} {' '.join(arguments)} failed; are Debian's sources for {ARCHITECTURE} "
                f"set up and reachable? It said:\n{done.stdout.strip()}"
            )
        return done.stdout


def unpack(package: Path, root: Path) -> None:
    """Unpack a package's files into `root`, without documentation and translations."""
    command = ["tar", "--extract", f"--directory={root}", "--no-same-owner"]
    command += [f"--exclude=./usr/share/{what}" for what in ("doc", "man", "locale")]
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE
    ) as archive:
        subprocess.run(command, stdin=archive.stdout, check=True)
    if archive.returncode:
        raise EdgekitError(f"cannot unpack {package.name}; is the disk full?")
