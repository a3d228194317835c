"""A process of its own for a bundle: its threads, its memory and its faults are its own."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from edgekit.device.child import command, from_news
from edgekit.errors import EdgekitError

_PROGRAM = "from edgekit.device.measure.bench_worker import serve; serve()"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a worker says once its bundle is loaded."""

    bundle: str
    target: str
    backend: str
    precision: str
    threads: int
    """As asked of the runtime; 0 leaves it to the runtime."""
    model_bytes: int
    load_ms: float
    """Reading and verifying the bundle, importing the runtime, opening the session."""
    notes: tuple[str, ...]
    """The delegate or provider that runs, and why others do not."""


class Worker:
    """A process that holds one bundle; ends with the block, or when this process does.

    Each question is one line of JSON, and so is its answer; see `bench_worker`.
    """

    def __init__(self, path: Path, threads: int | None):
        self.path = path
        self.threads = threads
        self.peak_mb = self.base_mb = 0.0

    def __enter__(self) -> "Worker":
        # A session of its own: Ctrl-C is for us, who then end the workers.
        self.process = subprocess.Popen(
            command(_PROGRAM),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def load(self) -> Loaded:
        """Read, verify and open the bundle.

        Raises:
            EdgekitError: as `edgekit.bundle.read` and `open_session` raise it there.
        """
        answer = self._ask({"load": str(self.path), "threads": self.threads})
        self.base_mb = answer.pop("base_mb")
        return Loaded(**{**answer, "notes": tuple(answer["notes"])})

    def run(self, count: int, warmup: int) -> list[float]:
        """Times of `count` runs, ms, after `warmup` that do not count."""
        answer = self._ask({"run": count, "warmup": warmup})
        self.peak_mb = answer["peak_mb"]
        times: list[float] = answer["ms"]
        return times

    def logits(self, image: Path) -> np.ndarray:
        """What the model answers to an image file, (classes,) float32.

        Raises:
            ImageError: it cannot be decoded.
        """
        return np.array(self._ask({"image": str(image)})["logits"], np.float32)

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Send one line, wait for one line."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise EdgekitError(
                f"the process that ran {self.path} died (exit code {self.process.wait()}); "
                "out of memory, or a fault of the runtime: see its messages above"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise from_news(answer)
        return answer
