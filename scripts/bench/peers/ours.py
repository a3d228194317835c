"""edgekit's loop on a file, as `apps/camera_demo.py` writes it, on one thread.

MODEL is a bundle. The bundle's own number of threads is for the device it was built for.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from edgekit.device.loop import Loop
from edgekit.device.session import open_session
from edgekit.device.uri import open_camera
from scripts.bench import _common
from scripts.bench.peers import measure


def loop(clip: str, model: str) -> Iterator[int]:
    """The class of each frame."""
    opened = _common.read(Path(model), threads=1)
    with (
        closing(open_session(opened)) as session,
        closing(open_camera(clip, opened.manifest.loop)) as camera,
        Loop(opened, session, camera, source=clip) as running,
    ):
        for result in running:
            yield result.best.index


if __name__ == "__main__":
    measure.main(loop, "edgekit", "ai-edge-litert", "av", "opencv-python-headless", "numpy")
