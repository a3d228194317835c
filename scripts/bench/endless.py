"""Whether memory stays flat over a million frames.

    python -m scripts.bench.endless BUNDLE [--frames 1000000]

A synthetic camera gives NV12 as fast as it is asked; the bundle's own model answers each frame (a
tiny one, or this takes days). Prints resident memory, page faults a frame and Python's bytes as it
goes.
"""

import argparse
import gc
import os
import resource
import sys
import time
from contextlib import closing
from pathlib import Path

from edgekit.device.loop import Loop
from edgekit.device.session import open_session
from edgekit.device.uri import open_camera
from scripts.bench._common import heading, read


def resident_kb() -> int:
    """Memory of this process, KB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--frames", type=int, default=1_000_000)
    given = parser.parse_args()
    bundle = read(given.bundle)
    source = f"synthetic://320x240@30?format=nv12&pace=fast&frames={given.frames}"
    print(heading(f"{bundle.manifest.name} {bundle.manifest.precision}", source))
    print("\n| frames | resident, KB | page faults a frame | blocks of Python's | s |")
    print("|---|---|---|---|---|", flush=True)
    with (
        closing(open_session(bundle)) as session,
        closing(open_camera(source)) as camera,
        Loop(bundle, session, camera) as loop,
    ):
        begun, faults, shown = time.monotonic(), 0, 0
        for count, _ in enumerate(loop, 1):
            if count in (1000, given.frames) or count % (given.frames // 10) == 0:
                gc.collect()
                now = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
                each = (now - faults) / (count - shown)
                spent = time.monotonic() - begun
                print(
                    f"| {count:,} | {resident_kb():,} | {each:.4f} | "
                    f"{sys.getallocatedblocks():,} | {spent:.0f} |",
                    flush=True,
                )
                faults, shown = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, count
        copied = loop.summary().bytes_per_frame["frame"]
    print(f"\nBytes of whole frames copied per frame: {copied:.0f}.")


if __name__ == "__main__":
    main()
