"""The optional packages of the device half, imported on first use."""

import importlib
from typing import Any

from edgekit.errors import MissingPackage


def opencv(purpose: str) -> Any:
    """The module `cv2`; `purpose` opens the message if it is missing.

    Raises:
        MissingPackage: OpenCV is not installed; names the extra `camera`.
    """
    return _load("cv2", "opencv-python-headless", purpose)


def pyav(purpose: str) -> Any:
    """The module `av` (FFmpeg's libraries); `purpose` opens the message if it is missing.

    Raises:
        MissingPackage: PyAV is not installed; names the extra `camera`.
    """
    return _load("av", "av", purpose)


def simplejpeg(purpose: str) -> Any:
    """The module `simplejpeg` (libjpeg-turbo); `purpose` opens the message if it is missing.

    Raises:
        MissingPackage: simplejpeg is not installed; names the extra `camera`.
    """
    return _load("simplejpeg", "simplejpeg", purpose)


def _load(module: str, package: str, purpose: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackage(package, "camera", purpose) from error
