"""What a live page knows of a run: a stream for each source and model, and its numbers as JSON."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from edgekit.device.outputs._heat import Heat, Thermometer
from edgekit.device.outputs._history import SECONDS, History
from edgekit.device.outputs._picture import View
from edgekit.device.outputs.json import as_json
from edgekit.device.result import Result
from edgekit.device.shown import shown

_SAME_S = 0.25
_HEAT_S = 3.0
_MOST = 32
SHOWN = 10
"""Answers of one frame that are sent, at most."""


def answer(result: Result) -> dict[str, Any]:
    """One result for the page: a line of `json://`, with at most `SHOWN` predictions."""
    line = as_json(result)
    line["predictions"] = line["predictions"][:SHOWN]
    return line


class Stream:
    """One source answered by one model. The loop adds, other threads read."""

    def __init__(self, result: Result, view: View) -> None:
        """Start with `result`, which is not added yet."""
        self.view = view
        self.source, self.model = shown(result.source), result.model
        self._history = History()
        self._newest, self._newest_s = result, time.monotonic()

    def add(self, result: Result) -> None:
        """Take one result (the loop's thread)."""
        self._newest, self._newest_s = result, time.monotonic()
        self._history.add(result.age_ms)
        self.view.offer(result)

    def named(self) -> dict[str, Any]:
        """What tells it from others, and its best answer."""
        best = self._newest.predictions[0].label if self._newest.predictions else ""
        return {"source": self.source, "model": self.model, "label": best}

    def numbers(self) -> dict[str, Any]:
        """What it cost so far and in the last minute."""
        newest, since = self._newest, self._newest_s
        summary = newest.summary() if newest.summary else None
        seconds = self._history.recent()
        return {
            "source": self.source,
            "model": self.model,
            "runtime": newest.runtime,
            "silent_s": round(max(time.monotonic() - since, 0.0), 3),
            "answer": answer(newest),
            "summary": asdict(summary) if summary else None,
            "recent": {
                "seconds": SECONDS,
                "fps": [second and second.answers for second in seconds],
                "p50_ms": [second and second.p50_ms for second in seconds],
                "p95_ms": [second and second.p95_ms for second in seconds],
            },
        }


class Streams:
    """All streams of a run, in the order of their first results."""

    def __init__(self, run: str, viewers: int, view: Callable[[], View]) -> None:
        """Start with none.

        Args:
            run: tells this run from another at the same address.
            viewers: as many may watch.
            view: makes the pictures of a new stream.
        """
        self.run, self.closed = run, False
        self._viewers, self._view = viewers, view
        self._by_name: dict[tuple[str, str], Stream] = {}
        self._all: list[Stream] = []
        self._any = threading.Event()
        self._lock = threading.Lock()
        self._thermometer = Thermometer()
        self._heat: Heat | None = None
        self._heat_s = -_HEAT_S
        self._texts: dict[int, tuple[float, bytes]] = {}

    def add(self, result: Result) -> None:
        """Take one result (the loop's thread); past 32 streams, new ones are passed over."""
        stream = self._by_name.get((result.source, result.model))
        if stream is None:
            if len(self._all) == _MOST:
                return
            stream = Stream(result, self._view())
            self._by_name[result.source, result.model] = stream
            self._all.append(stream)
            self._any.set()
        stream.add(result)

    def get(self, place: int, wait_s: float) -> Stream | None:
        """The stream at `place`, from 0; before there is any, wait for it so long.

        Raises:
            IndexError: there are others, but not so many.
        """
        self._any.wait(wait_s)
        return self._all[place] if self._all else None

    def text(self, place: int, watching: int) -> bytes:
        """The numbers of the stream at `place`, as JSON; made at most four times a second.

        Raises:
            IndexError: there are others, but not so many.
        """
        with self._lock:
            now = time.monotonic()
            made_s, text = self._texts.get(place, (-_SAME_S, b""))
            if now - made_s >= _SAME_S:
                stream = self.get(place, 0)
                text = json.dumps(self._numbers(stream, now, watching)).encode()
                self._texts[place] = now, text
            return text

    def close(self) -> None:
        """Let nobody wait any more."""
        self.closed = True
        self._any.set()
        for stream in self._all:
            stream.view.close()

    def _numbers(self, stream: Stream | None, now: float, watching: int) -> dict[str, Any]:
        if now - self._heat_s >= _HEAT_S:
            self._heat, self._heat_s = self._thermometer.read(), now
        return {
            "run": self.run,
            "viewers": watching,
            "most_viewers": self._viewers,
            "heat": asdict(self._heat) if self._heat else None,
            "streams": [each.named() for each in self._all],
            "stream": stream.numbers() if stream else None,
        }
