"""What an annotated frame shows: the three best answers as bars, and the rate."""

from typing import Any

import numpy as np

from edgekit.device.copies import Copies
from edgekit.device.image import full_bgr
from edgekit.device.packages import opencv
from edgekit.device.result import Result

_SHOWN = 3
_WHITE, _GREEN, _DARK = (255, 255, 255), (80, 200, 80), (40, 40, 40)


def annotate(result: Result, copies: Copies) -> np.ndarray:
    """A drawing of `result` on a copy of its frame.

    Args:
        result: its frame is only read.
        copies: counts the bytes.

    Returns:
        (H, W, 3) uint8, BGR, owned by the caller.
    """
    cv2 = opencv("drawing on a frame")
    # A copy of the whole frame: the camera's memory is lent, and may be read-only.
    canvas = full_bgr(result.frame.picture)
    copies.add("display", "frame to draw on", canvas.nbytes)
    line = max(canvas.shape[0] // 16, 12)
    for row, prediction in enumerate(result.predictions[:_SHOWN]):
        text = f"{prediction.label} {prediction.probability * 100:.0f} %"
        _bar(cv2, canvas, row, line, text, prediction.probability)
    if result.fps:
        _text(cv2, canvas, f"{result.fps:.1f} fps", (line // 3, canvas.shape[0] - line // 3), line)
    return canvas


def _bar(cv2: Any, canvas: np.ndarray, row: int, line: int, text: str, share: float) -> None:
    top, width = line // 3 + row * (line + line // 4), canvas.shape[1] // 2
    left = line // 3
    cv2.rectangle(canvas, (left, top), (left + width, top + line), _DARK, -1)
    cv2.rectangle(canvas, (left, top), (left + round(width * share), top + line), _GREEN, -1)
    _text(cv2, canvas, text, (left + line // 4, top + line * 3 // 4), line)


def _text(cv2: Any, canvas: np.ndarray, text: str, where: tuple[int, int], line: int) -> None:
    plain = text.encode("ascii", "replace").decode()  # OpenCV's own font has ASCII only
    scale, font = line / 34, cv2.FONT_HERSHEY_SIMPLEX
    shadow = (where[0] + 1, where[1] + 1)  # not a thicker stroke: in OpenCV 5 that is wider too
    cv2.putText(canvas, plain, shadow, font, scale, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.putText(canvas, plain, where, font, scale, _WHITE, 1, cv2.LINE_AA)
