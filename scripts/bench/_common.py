"""What the loop's benchmarks share: a bundle with one thread, frames in memory, a heading."""

import dataclasses
import datetime
import os
import platform
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from edgekit import bundle as bundles
from edgekit.bundle import Bundle
from edgekit.device.copies import Copies
from edgekit.device.frame import Frame, Kind, nothing
from edgekit.device.image import full_bgr
from edgekit.device.picture import Picture, rgb
from edgekit.device.uri import open_camera

CAMERA = "v4l2:///dev/video0"
"""The virtual camera's, once `under_virtual_camera` has started this program anew."""


def read(path: Path, threads: int = 1) -> Bundle:
    """The bundle, with that many threads for its session."""
    found = bundles.read(path)
    session = dataclasses.replace(found.manifest.session, threads=threads)
    return dataclasses.replace(found, manifest=dataclasses.replace(found.manifest, session=session))


def heading(*more: str) -> str:
    """A line with the day and the machine."""
    load = f"load {os.getloadavg()[0]:.1f} before"
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    return ", ".join([str(datetime.date.today()), machine, *more, load])


def under_virtual_camera(**settings: str) -> None:
    """Start this program anew so that it sees the virtual camera; returns in the new one."""
    if "VIRTUAL_CAMERA_ID" in os.environ:
        return
    run = Path(__file__).parents[1] / "virtual_camera" / "run"
    names = {f"VIRTUAL_CAMERA_{name.upper()}": value for name, value in settings.items()}
    command = [
        str(run),
        sys.executable,
        "-m",
        f"scripts.bench.{Path(sys.argv[0]).stem}",
        *sys.argv[1:],
    ]
    sys.exit(subprocess.run(command, env={**os.environ, **names}).returncode)


class Memory:
    """Pictures as a clip: each is lent once, and costs nothing. Starts over `times` times."""

    kind: Kind = "clip"
    deadline_s = float("inf")

    def __init__(self, pictures: list[Picture], times: int = 1) -> None:
        """Keep the pictures."""
        self.copies = Copies()
        self._pictures, self._left = pictures, times * len(pictures)

    def read(self) -> Frame | None:
        """The next one."""
        if not self._left:
            return None
        self._left -= 1
        picture = self._pictures[self._left % len(self._pictures)]
        return Frame(picture, 0, time.monotonic_ns(), 0.0, nothing)

    def close(self) -> None:
        """Nothing to free."""


def decode(clip: str, limit: int) -> list[Picture]:
    """The first frames of a clip, RGB, copied."""
    found: list[Picture] = []
    with closing(open_camera(clip)) as camera:
        while len(found) < limit and (frame := camera.read()) is not None:
            with frame:
                found.append(rgb(np.ascontiguousarray(full_bgr(frame.picture)[..., ::-1])))
    return found
