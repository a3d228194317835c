"""The numbers of the live page, as JSON; `docs/outputs.md` describes the keys."""

import json
import threading
import time
from dataclasses import asdict
from typing import Any

from edgekit.device.outputs._heat import Heat, Thermometer
from edgekit.device.outputs._history import SECONDS, History
from edgekit.device.outputs.json import as_json
from edgekit.device.result import Result

_SAME_S = 0.25
_HEAT_S = 3.0
SHOWN = 10
"""Answers of one frame that are sent, at most."""


def answer(result: Result) -> dict[str, Any]:
    """One result for the page: a line of `json://`, with at most `SHOWN` predictions."""
    line = as_json(result)
    line["predictions"] = line["predictions"][:SHOWN]
    return line


class Numbers:
    """What the run cost so far and in the last minute. The loop adds, other threads read."""

    def __init__(self, run: str, viewers: int) -> None:
        """Start with nothing.

        Args:
            run: tells this run from another at the same address.
            viewers: as many may watch.
        """
        self._run, self._viewers = run, viewers
        self._history = History()
        self._newest: Result | None = None
        self._newest_s = 0.0
        self._began_s = time.monotonic()
        self._lock = threading.Lock()
        self._thermometer = Thermometer()
        self._heat: Heat | None = None
        self._heat_s = -_HEAT_S
        self._text = b""
        self._text_s = -_SAME_S

    def add(self, result: Result) -> None:
        """Take one result (the loop's thread)."""
        self._newest, self._newest_s = result, time.monotonic()
        self._history.add(result.age_ms)

    def text(self, watching: int) -> bytes:
        """The JSON; at most four are made in a second, however many ask."""
        with self._lock:
            now = time.monotonic()
            if now - self._text_s >= _SAME_S:
                self._text = json.dumps(self._all(now, watching)).encode()
                self._text_s = now
            return self._text

    def _all(self, now: float, watching: int) -> dict[str, Any]:
        if now - self._heat_s >= _HEAT_S:
            self._heat, self._heat_s = self._thermometer.read(), now
        result = self._newest
        summary = result.summary() if result is not None and result.summary else None
        seconds = self._history.recent()
        return {
            "run": self._run,
            "source": result.source if result else "",
            "model": result.model if result else "",
            "silent_s": round(now - (self._newest_s or self._began_s), 3),
            "answer": answer(result) if result else None,
            "summary": asdict(summary) if summary else None,
            "recent": {
                "seconds": SECONDS,
                "fps": [second and second.answers for second in seconds],
                "p50_ms": [second and second.p50_ms for second in seconds],
                "p95_ms": [second and second.p95_ms for second in seconds],
            },
            "heat": asdict(self._heat) if self._heat else None,
            "viewers": watching,
            "most_viewers": self._viewers,
        }
