"""`csi://0?width=1280&height=720&fps=30`: a ribbon-cable camera, by OpenCV and GStreamer.

On a Jetson the frames come from `nvarguscamerasrc` (NVIDIA's image processor), elsewhere, as on a
Raspberry Pi, from `libcamerasrc`.
"""

import re
from pathlib import Path

from edgekit.device.cameras._capture import Capture, open_capture
from edgekit.device.packages import opencv
from edgekit.device.uri import Uri, number
from edgekit.errors import SourceUnavailable

_JETSON = Path("/etc/nv_tegra_release")
_SINK = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"

_SETTINGS = {"CAP_PROP_READ_TIMEOUT_MSEC": 5000.0}  # GStreamer's own would be 30 s


def open_camera(uri: Uri) -> Capture:
    """The camera on connector 0, 1 ...; `csi://` alone is the first.

    Options: `width` (1280), `height` (720), `fps` (30).

    Raises:
        SourceUnavailable: OpenCV was built without GStreamer, the element is missing, or the camera
            gives no frame.
        MissingPackage: OpenCV is not installed.
    """
    uri.only("width", "height", "fps")
    index = int(number(uri, "the connector", uri.place or "0", 0, 15))
    width = int(uri.number("width", 1280, 16, 16384))
    height = int(uri.number("height", 720, 16, 16384))
    fps = int(uri.number("fps", 30, 1, 1000))
    _check()
    text = pipeline(_JETSON.exists(), index, width, height, fps)
    return open_capture(f"csi://{index} ({text.split()[0]})", text, "CAP_GSTREAMER", _SETTINGS)


def pipeline(jetson: bool, index: int, width: int, height: int, fps: int) -> str:
    """GStreamer's text for one camera; the sink keeps the newest frame and drops older ones.

    Raises:
        SourceUnavailable: a second camera where GStreamer cannot tell them apart by number.
    """
    size = f"width={width},height={height},framerate={fps}/1"
    if jetson:
        return (
            f"nvarguscamerasrc sensor-id={index} ! video/x-raw(memory:NVMM),{size} ! "
            f"nvvidconv ! video/x-raw,format=BGRx ! {_SINK}"
        )
    if index:
        raise SourceUnavailable(
            f"csi://{index}: libcamera names its cameras and does not number them; "
            "only csi://0, the first, can be opened"
        )
    return f"libcamerasrc ! video/x-raw,{size} ! {_SINK}"


def _check() -> None:
    build = opencv("opening a camera").getBuildInformation()
    if not re.search(r"GStreamer:\s+YES", build):
        raise SourceUnavailable(
            "csi:// needs an OpenCV that was built with GStreamer, and pip's is not; "
            "use the system's: `sudo apt install python3-opencv` (a Jetson's JetPack brings its "
            "own), in an environment made with `python3 -m venv --system-site-packages` and "
            "without opencv-python-headless"
        )
