"""The camera demo as a user runs it: started, looked at through its JSON lines, ended by Ctrl-C.

    python -m scripts.virtual_pi_parts.demo BUNDLE SOURCE OUT.jsonl --frames 30

runs until so many frames are answered. Its exit code is the demo's, or 0 where that ended well
after Ctrl-C.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from scripts.virtual_pi_parts.place import REPOSITORY

_LOOK_S = 0.05
_END_S = 60.0
"""For an emulated demo to end, which has to write down what it saw."""


class Demo:
    """The demo in a process of its own, and the answers that it has written so far."""

    def __init__(self, bundle: Path, source: str, out: Path, *options: str) -> None:
        """Start it.

        Args:
            bundle: the folder.
            source: as `apps/camera_demo.py` takes it.
            out: a file for its JSON lines, written anew.
            options: more of the demo's own.
        """
        out.unlink(missing_ok=True)
        command = [sys.executable, str(REPOSITORY / "apps/camera_demo.py"), str(bundle), source]
        command += ["--output", f"json://{out}", *options]
        self._out, self._read, self._rest = out, 0, ""
        self.answers: list[dict[str, Any]] = []
        self.seen_s: list[float] = []
        """When each answer was read here, by the monotonic clock."""
        self.process = subprocess.Popen(command)

    def look(self) -> int:
        """Read what was written meanwhile; returns how many answers there are."""
        if self._out.exists():
            with self._out.open(encoding="utf-8") as file:
                file.seek(self._read)
                *lines, self._rest = (self._rest + file.read()).split("\n")
                self._read = file.tell()
            self.answers += [json.loads(line) for line in lines if line]
            self.seen_s += [time.monotonic()] * (len(self.answers) - len(self.seen_s))
        return len(self.answers)

    def wait_for(self, answers: int, timeout_s: float) -> bool:
        """Wait until there are so many answers; False where it ended or took longer."""
        until = time.monotonic() + timeout_s
        while self.look() < answers:
            if self.process.poll() is not None or time.monotonic() > until:
                return self.look() >= answers
            time.sleep(_LOOK_S)
        return True

    def end(self, how: signal.Signals = signal.SIGINT) -> tuple[int, float]:
        """Tell it to end; returns its exit code and how many seconds that took."""
        begun = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            code = self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.look()
        return code, time.monotonic() - begun


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("source")
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds")
    options = parser.parse_args()
    demo = Demo(options.bundle, options.source, options.out)
    whole = demo.wait_for(options.frames, options.timeout)
    code, _ = demo.end()
    if whole:
        return 0 if code in (0, 128 + signal.SIGINT) else code
    print(f"only {len(demo.answers)} of {options.frames} frames were answered", file=sys.stderr)
    return code or 1


if __name__ == "__main__":
    sys.exit(main())
