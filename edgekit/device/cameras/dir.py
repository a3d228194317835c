"""`dir://photos`, or the plain path of a folder: its images, and those of its folders, by name."""

import time
from collections.abc import Sequence
from pathlib import Path

from edgekit.device.copies import Copies
from edgekit.device.frame import FOREVER, Frame, Kind, nothing
from edgekit.device.image import list_images, read_image
from edgekit.device.missing import Missing, package
from edgekit.device.picture import rgb
from edgekit.device.uri import Uri


def open_camera(uri: Uri) -> "Stills":
    """A folder of images, every one of which is used. No options.

    Raises:
        ImageError: no such folder, or no image in it.
    """
    uri.only()
    return Stills(list_images(Path(uri.place)))


def missing() -> Missing | None:
    """What decodes images."""
    return package("cv2")


class Stills:
    """Image files as a camera; one second of its own time each."""

    kind: Kind = "stills"
    deadline_s = FOREVER

    def __init__(self, paths: Sequence[Path]) -> None:
        self.copies = Copies()
        self._paths = paths
        self._next = 0

    def read(self) -> Frame | None:
        """Decode the next file.

        Raises:
            ImageError: it cannot be decoded.
        """
        if self._next >= len(self._paths):
            return None
        sequence, self._next = self._next, self._next + 1
        path = self._paths[sequence]
        captured_ns = time.monotonic_ns()
        pixels = read_image(path)
        # OpenCV decodes to BGR; read_image turns it to RGB in place.
        self.copies.add("frame", "colour order of the file", pixels.nbytes)
        return Frame(rgb(pixels), sequence, captured_ns, float(sequence), nothing, str(path))

    def close(self) -> None:
        """Forget the files."""
        self._paths = ()
