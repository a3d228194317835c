"""Programs of the system that this needs, and what to install where they are missing."""

import shutil

from edgekit.errors import EdgekitError


class MissingProgram(EdgekitError):
    """A program that is not on this system."""

    exit_code = 3


def need(program: str, package: str) -> str:
    """The path of a program.

    Raises:
        MissingProgram: names what brings it.
    """
    if path := shutil.which(program):
        return path
    raise MissingProgram(
        f"the emulated Pi needs {program}, which is not installed; it comes with {package} "
        "(on Debian, scripts/install_system_packages installs everything)"
    )
