"""The wheels that a Pi installs: edgekit's own requirements and its device extras, for aarch64."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from edgekit.errors import NetworkUnavailable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXTRAS = ("camera", "litert", "onnx")
"""One runtime would do on a real Pi; `onnx` is there so that such a bundle can be tried, too."""
_OLDEST, _NEWEST = 17, 36  # the glibc 2.x that wheels may ask for; Debian 12 has 2.36


def requirements(pyproject: Path) -> list[str]:
    """What edgekit itself and `EXTRAS` ask for, each at the version that is installed here.

    The same versions on both sides, so that a difference is the processor's. What is not installed
    here is left to pip.
    """
    project: dict[str, Any] = tomllib.loads(pyproject.read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in EXTRAS:
        wanted += project["optional-dependencies"][extra]
    return [_as_here(line) for line in wanted]


def _as_here(requirement: str) -> str:
    text, _, marker = requirement.partition(";")
    name = re.split(r"[^\w.-]", text.strip(), maxsplit=1)[0]
    try:
        version = metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return requirement
    return f"{name}=={version}" + (f";{marker}" if marker else "")


def install(wanted: list[str], python: str, folder: Path) -> None:
    """Install for aarch64 and the given Python ("3.11") into `folder`, without running anything.

    Raises:
        NetworkUnavailable: pip could not fetch them, or there is no such wheel.
    """
    platforms = ["manylinux2014_aarch64"]
    platforms += [f"manylinux_2_{minor}_aarch64" for minor in range(_OLDEST, _NEWEST + 1)]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--target", str(folder), "--python-version", python, "--implementation", "cp"]
    command += ["--only-binary=:all:", "--no-compile", *wanted]
    command += [part for platform in platforms for part in ("--platform", platform)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise NetworkUnavailable(
            f"pip could not get the wheels for aarch64 and Python {python}; is the package index "
            f"reachable? It said:\n{done.stdout.strip()}"
        )
