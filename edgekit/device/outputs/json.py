"""`json://-` (stdout) or `json://results.jsonl`: one JSON object a line, written at once.

    {"frame": 12, "captured_ns": 81234567890123, "time_s": 0.4, "source": "v4l2:///dev/video0",
     "name": "", "model": "mobilenet_v2", "age_ms": 8.1,
     "predictions": [{"index": 285, "label": "Egyptian cat", "probability": 0.871}]}

`docs/outputs.md` and the schema beside it say what each key means. Keys are added, never changed or
removed.
"""

import json
import sys
from typing import IO, Any

from edgekit.device.copies import Copies
from edgekit.device.result import Result
from edgekit.device.shown import shown
from edgekit.device.uri import Uri
from edgekit.errors import StorageError


def open_output(uri: Uri, copies: Copies) -> "JsonLines":
    """Standard output for `-`, else a file, which is written anew. No options.

    Raises:
        StorageError: the file cannot be written.
    """
    uri.only()
    if uri.place in ("", "-"):
        return JsonLines("-", sys.stdout, close=False)
    try:
        return JsonLines(uri.place, open(uri.place, "w", encoding="utf-8"), close=True)
    except OSError as error:
        raise StorageError.from_os(error, uri.place) from error


def as_json(result: Result) -> dict[str, Any]:
    """The object of one line."""
    return {
        "frame": result.frame.sequence,
        "captured_ns": result.frame.captured_ns,
        "time_s": round(result.frame.time_s, 6),
        "source": shown(result.source),
        "name": result.frame.name,
        "model": result.model,
        "age_ms": round(result.age_ms, 3),
        "predictions": [
            {"index": p.index, "label": p.label, "probability": round(p.probability, 6)}
            for p in result.predictions
        ],
    }


class JsonLines:
    """JSON lines to an open text file."""

    def __init__(self, name: str, file: IO[str], close: bool) -> None:
        self._name, self._file, self._close = name, file, close

    def write(self, result: Result) -> bool:
        """Write one line and flush it, so that a reader sees it now.

        Raises:
            BrokenPipeError: the reader went away.
            StorageError: the disk is full.
        """
        try:
            self._file.write(json.dumps(as_json(result), ensure_ascii=False) + "\n")
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StorageError.from_os(error, self._name) from error
        return True

    def close(self) -> None:
        """Close the file; stdout stays open.

        Raises:
            StorageError: the disk is full.
        """
        if not self._close:
            return
        try:
            self._file.close()
        except OSError as error:
            raise StorageError.from_os(error, self._name) from error
