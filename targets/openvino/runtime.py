"""The package `openvino`, imported so that it reports nothing to its makers.

Importing it imports its model converter, `openvino.tools.ovc`, which sends an event to Google
Analytics and leaves a client id in `~/intel` (2026.4). The converter is not needed here: hidden
while the import runs, nothing is sent, nothing is written, and half of the time is saved.
"""

import sys
from typing import Any

from edgekit.errors import MissingPackage

CONVERTER = "openvino.tools.ovc"


def api(purpose: str) -> Any:
    """The module `openvino`; `purpose` opens the message if it is missing.

    Raises:
        MissingPackage: it is not installed; names the extra `openvino`.
    """
    hidden = "openvino" not in sys.modules and CONVERTER not in sys.modules
    if hidden:
        sys.modules[CONVERTER] = None  # type: ignore[assignment]  # the documented way to hide one
    try:
        import openvino
    except ImportError as error:
        raise MissingPackage("openvino", "openvino", purpose) from error
    finally:
        if hidden:
            del sys.modules[CONVERTER]
    return openvino


def line(error: Exception) -> str:
    """What OpenVINO says, without the places in its source files; one line."""
    parts = [text for text in str(error).split("\n") if not text.startswith("Exception from ")]
    return " ".join(" ".join(parts).split()) or type(error).__name__
