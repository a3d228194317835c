"""`image://cat.jpg`, or the plain path of an image: one frame."""

from pathlib import Path

from edgekit.device.cameras.dir import Stills
from edgekit.device.missing import Missing, package
from edgekit.device.uri import Uri


def open_camera(uri: Uri) -> Stills:
    """One image file. No options."""
    uri.only()
    return Stills((Path(uri.place),))


def missing() -> Missing | None:
    """What decodes images."""
    return package("cv2")
