"""The virtual camera for tests, and a process that sees it; `conftest.py` has the fixtures."""

import json
import os
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class VirtualCamera:
    """A V4L2 camera that is not there: `scripts/virtual_camera`, as a process sees it."""

    library: str
    control: Path

    def set(self, **settings: object) -> None:
        """Make it so, also while it runs; what is not named is as usual. See docs/camera.md."""
        lines = "".join(f"{name.replace('__', '.')}={value}\n" for name, value in settings.items())
        written = self.control.with_suffix(".new")
        written.write_text(lines)
        written.replace(self.control)

    @property
    def environment(self) -> dict[str, str]:
        """For a process that is to see the camera as /dev/video0."""
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
            "LD_PRELOAD": self.library,
            "VIRTUAL_CAMERA_CONTROL": str(self.control),
        }


_ANSWERING = """
import contextlib, io, json, sys
import pytest
answers = sys.stdout
for line in sys.stdin:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", "-rs", line.strip()])
    print(json.dumps([code, said.getvalue()]), file=answers, flush=True)
"""


@dataclass
class Seeing:
    """A process that sees a virtual camera and runs tests in it, one after the other."""

    camera: VirtualCamera
    _process: subprocess.Popen[str] | None = None

    def run(self, test: str) -> tuple[int, str]:
        """Run one test; gives pytest's exit code and what it printed."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _ANSWERING], cwd=ROOT, env=self.camera.environment,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{test}\n")
        self._process.stdin.flush()
        if select.select([self._process.stdout], [], [], 120)[0] and (
            line := self._process.stdout.readline()
        ):
            code, said = json.loads(line)
        else:
            code, said = 1, f"{test} hung, or ended its process"
        if code:
            self.close()  # and start anew: the test may have left the camera open
        return code, said

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
