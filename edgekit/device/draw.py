"""What an annotated frame shows: the three best answers with bars, the rate and the frame's age."""

import unicodedata
from typing import Any

import numpy as np

from edgekit.device.copies import Copies
from edgekit.device.decode import Prediction
from edgekit.device.image import full_bgr
from edgekit.device.packages import opencv
from edgekit.device.result import Result

_SHOWN = 3
_WHITE, _GREEN, _GREY = (255, 255, 255), (80, 200, 80), (90, 90, 90)


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
    height, width = canvas.shape[:2]
    line = max(min(height, width) // 18, 10)
    margin = line // 2
    rows = result.predictions[: min(_SHOWN, (height - margin) // (2 * line))]
    panel = canvas[margin : margin + len(rows) * 2 * line, margin : width - margin][:, : 15 * line]
    panel //= 3  # darker, so that white can be read on any picture
    for number, prediction in enumerate(rows):
        _row(cv2, panel[number * 2 * line :][: 2 * line], line, prediction)
    if result.fps and height > margin + len(rows) * 2 * line + 2 * line:
        words = f"{result.fps:.1f} fps, {result.age_ms:.1f} ms"
        _text(cv2, canvas, words, margin, height - margin, line)
    return canvas


def _row(cv2: Any, row: np.ndarray, line: int, prediction: Prediction) -> None:
    """A label, its share at the right, and a bar under both; `row` is a part of the canvas."""
    left, right, base = line // 2, row.shape[1] - line // 2, line * 5 // 4
    percent = f"{prediction.probability * 100:.0f} %"
    at = right - _width(cv2, percent, line)
    _text(cv2, row, _fitting(cv2, _drawable(cv2, prediction.label), at - left * 2, line),
          left, base, line)  # fmt: skip
    _text(cv2, row, percent, at, base, line)
    top, bottom = line * 3 // 2, line * 3 // 2 + max(line // 5, 2)
    row[top:bottom, left:right] = _GREY
    row[top:bottom, left : left + round((right - left) * prediction.probability)] = _GREEN


def _text(cv2: Any, canvas: np.ndarray, text: str, left: int, base: int, line: int) -> None:
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, line / 34
    shadow = (left + 1, base + 1)  # not a thicker stroke: in OpenCV 5 that is wider too
    cv2.putText(canvas, text, shadow, font, scale, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.putText(canvas, text, (left, base), font, scale, _WHITE, 1, cv2.LINE_AA)


def _width(cv2: Any, text: str, line: int) -> int:
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, line / 34, 1)
    return int(width)


def _fitting(cv2: Any, text: str, room: int, line: int) -> str:
    """`text`, cut to be at most `room` pixels wide."""
    width = _width(cv2, text, line)
    if width <= room:
        return text
    kept = max(len(text) * room // width, 0)
    while kept and _width(cv2, text[:kept].rstrip(" ,") + "...", line) > room:
        kept -= 1
    return text[:kept].rstrip(" ,") + "..." if kept else ""


def _drawable(cv2: Any, text: str) -> str:
    """`text` in the characters that OpenCV has: from 5.0 on all, before that ASCII alone."""
    if int(cv2.__version__.split(".")[0]) >= 5:
        return text
    without_accents = unicodedata.normalize("NFKD", text)
    kept = "".join(c for c in without_accents if not unicodedata.combining(c))
    return kept.encode("ascii", "replace").decode()
