"""What does the camera see? The whole loop in one screen: copy this file and start from it.

    python apps/camera_demo.py BUNDLE SOURCE [--output http://127.0.0.1:8080]...

SOURCE is `v4l2:///dev/video0`, `csi://0`, `picamera://0`, `rtsp://...`, a clip, a folder, an image.
"""

import argparse
from contextlib import ExitStack, closing
from pathlib import Path

from edgekit import bundle
from edgekit.device.ending import ending
from edgekit.device.loop import Loop
from edgekit.device.seen import Seen
from edgekit.device.session import open_session
from edgekit.device.uri import open_camera, open_output


def main() -> None:
    """Print what is seen per second, and at the end how fast that went."""
    parser = argparse.ArgumentParser(description="Say what a camera sees, second by second.")
    parser.add_argument("bundle", type=Path, help="the folder that `edgekit build` wrote")
    parser.add_argument("source", help="a clip, or a camera such as v4l2:///dev/video0")
    parser.add_argument("--output", action="append", default=[], help="http://..., out.mp4, ...")
    options = parser.parse_args()

    with ending(), ExitStack() as stack:  # closes everything below, on Ctrl-C too
        opened = bundle.read(options.bundle)  # verifies every byte
        session = stack.enter_context(closing(open_session(opened)))
        camera = stack.enter_context(closing(open_camera(options.source, opened.manifest.loop)))
        loop = stack.enter_context(Loop(opened, session, camera, source=options.source))
        outputs = [
            stack.enter_context(closing(open_output(uri, loop.copies))) for uri in options.output
        ]
        seen = Seen()
        try:
            for result in loop:  # result.frame is the camera's memory, lent until the next one
                if second := seen.add(result):
                    print(second, flush=True)
                if not all([output.write(result) for output in outputs]):
                    break
        finally:
            if second := seen.finish():
                print(second)
            print(loop.summary().line)


if __name__ == "__main__":
    main()
