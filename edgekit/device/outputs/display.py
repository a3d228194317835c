"""`display://`: a window with the annotated frames. `q` or Escape closes it and ends the loop."""

import os
import re
import sys
from typing import Any

from edgekit.device.copies import Copies
from edgekit.device.draw import annotate
from edgekit.device.packages import opencv
from edgekit.device.result import Result
from edgekit.device.uri import Uri
from edgekit.errors import SourceUnavailable

_TITLE = "edgekit"
_ENDS = (ord("q"), 27)
_INSTEAD = "or write a video (out.mp4) or text (json://-) instead"


def open_output(uri: Uri, copies: Copies) -> "Display":
    """A window. No options.

    Raises:
        SourceUnavailable: OpenCV was built without windows, or there is no display.
        MissingPackage: OpenCV is not installed.
    """
    uri.only()
    cv2 = opencv("showing frames")
    if re.search(r"GUI:\s+NONE", cv2.getBuildInformation()):
        raise SourceUnavailable(
            "this OpenCV was built without windows (opencv-python-headless); run "
            "`pip uninstall opencv-python-headless` and `pip install opencv-python`, " + _INSTEAD
        )
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        raise SourceUnavailable(
            "no display: neither DISPLAY nor WAYLAND_DISPLAY is set; run in a desktop session, "
            + _INSTEAD
        )
    return Display(cv2, copies)


class Display:
    """A window that shows the newest result."""

    def __init__(self, cv2: Any, copies: Copies) -> None:
        self._cv2, self._copies = cv2, copies
        self._open = False

    def write(self, result: Result) -> bool:
        """Show one frame; False once a key asked to end or the window was closed."""
        cv2 = self._cv2
        if self._open and cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1:
            return False
        canvas = annotate(result, self._copies)
        cv2.imshow(_TITLE, canvas)
        self._open = True
        return cv2.waitKey(1) & 0xFF not in _ENDS

    def close(self) -> None:
        """Close the window; closing again does nothing."""
        if self._open:
            self._cv2.destroyAllWindows()
            self._open = False
