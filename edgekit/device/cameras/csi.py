"""`csi://0?width=1280&height=720&fps=30`: a ribbon-cable camera, by GStreamer.

On a Jetson the frames come from `nvarguscamerasrc` (NVIDIA's image processor), elsewhere, as on a
Raspberry Pi, from `libcamerasrc`. On a Pi, `picamera://0` is the other way to the same camera.
"""

from pathlib import Path

from edgekit.device.cameras import gst
from edgekit.device.cameras._gstreamer import has_element
from edgekit.device.cameras.gst import Pipeline
from edgekit.device.missing import Missing
from edgekit.device.uri import Uri, number
from edgekit.errors import SourceUnavailable

_JETSON = Path("/etc/nv_tegra_release")
# What the camera writes lies in memory of the GPU's kind (NVMM), which a CPU cannot look at.
_NVMM = "nvvidconv: NVMM to system memory"


def open_camera(uri: Uri) -> Pipeline:
    """The camera on connector 0, 1 ...; `csi://` alone is the first.

    Options: `width` (1280), `height` (720), `fps` (30), and `deadline`, the seconds that starting,
    or a frame, may take (5).

    Raises:
        SourceUnavailable: GStreamer or its element for the camera is missing, or the camera gives
            no frame.
    """
    uri.only("width", "height", "fps", "deadline")
    index = int(number(uri, "the connector", uri.place or "0", 0, 15))
    width = int(uri.number("width", 1280, 16, 16384))
    height = int(uri.number("height", 720, 16, 16384))
    fps = int(uri.number("fps", 30, 1, 1000))
    deadline_s = uri.number("deadline", 5, 0.1, 3600)
    jetson = _JETSON.exists()
    text = pipeline(jetson, index, width, height, fps)
    return Pipeline(text, f"csi://{index}", deadline_s, _NVMM if jetson else "")


def missing() -> Missing | None:
    """GStreamer, and its element for the camera, which comes with the board's own system."""
    if (lacking := gst.missing()) is not None:
        return lacking
    element = "nvarguscamerasrc" if _JETSON.exists() else "libcamerasrc"
    packages = "nvidia-l4t-gstreamer" if _JETSON.exists() else "gstreamer1.0-libcamera"
    if has_element(element):
        return None
    return Missing(f"GStreamer's {element}", f"sudo apt install gstreamer1.0-tools {packages}")


def pipeline(jetson: bool, index: int, width: int, height: int, fps: int) -> str:
    """GStreamer's text for one camera, which ends in NV12.

    Raises:
        SourceUnavailable: a second camera where GStreamer cannot tell them apart by number.
    """
    size = f"width={width},height={height},framerate={fps}/1"
    if jetson:
        return (
            f"nvarguscamerasrc sensor-id={index} ! video/x-raw(memory:NVMM),{size} ! "
            "nvvidconv ! video/x-raw,format=NV12"
        )
    if index:
        raise SourceUnavailable(
            f"csi://{index}: libcamera names its cameras and does not number them; open it as "
            "'gst://libcamerasrc camera-name=NAME', with a name that `cam --list` shows"
        )
    return f"libcamerasrc ! video/x-raw,format=NV12,{size}"
