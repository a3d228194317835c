"""edgekit's loop on a file, as `apps/camera_demo.py` writes it, on one thread.

MODEL is a bundle. The bundle's own number of threads is for the device it was built for.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from edgekit import bundle
from edgekit.device.loop import Loop
from edgekit.device.session import open_session
from edgekit.device.uri import open_camera
from scripts.bench.peers import measure


def loop(clip: str, model: str) -> Iterator[int]:
    """The class of each frame."""
    opened = bundle.read(Path(model))
    options = dataclasses.replace(opened.manifest.session, threads=1)
    manifest = dataclasses.replace(opened.manifest, session=options)
    opened = dataclasses.replace(opened, manifest=manifest)
    with (
        closing(open_session(opened)) as session,
        closing(open_camera(clip)) as camera,
        Loop(opened, session, camera) as running,
    ):
        for result in running:
            yield result.best.index


if __name__ == "__main__":
    measure.main(loop, "edgekit", "ai-edge-litert", "av", "opencv-python-headless", "numpy")
