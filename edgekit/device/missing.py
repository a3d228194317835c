"""What a source of frames needs and this machine lacks, and the command that brings it.

A camera module may have `missing() -> Missing | None`, which `edgekit doctor` asks; it opens
nothing, and imports nothing heavy.
"""

from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True, slots=True)
class Missing:
    """One thing that is not here."""

    what: str
    """As it is called: a package, a device."""
    command: str = ""
    """What to type; empty if it is not to be had by a command."""


def package(module: str) -> Missing | None:
    """Python's package of that name, of the extra `camera`, if it is not installed."""
    name = {"cv2": "opencv-python-headless"}.get(module, module)
    if find_spec(module) is not None:
        return None
    return Missing(f"the package {name}", "pip install 'edgekit[camera]'")
