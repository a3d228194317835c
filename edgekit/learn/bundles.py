"""A step's checkpoint as a bundle, calibrated on images that it learned from."""

from pathlib import Path

import cv2
import numpy as np

from edgekit import bundle, checkpoint
from edgekit.errors import BundleError
from edgekit.learn.data.source import Images
from edgekit.lower.build import build
from edgekit.lower.calibrate import CALIBRATION
from edgekit.lower.plan import Request
from edgekit.lower.prepare import Say


def build_bundle(
    path: Path, out: Path, target: str, backend: str, precision: str, images: Images, say: Say
) -> Path:
    """Build the checkpoint `path` as the bundle `out`, unless it is there already.

    Args:
        path: a checkpoint of ours.
        out: the bundle's folder; one of other weights is replaced.
        target: a device family.
        backend: empty for the target's own.
        precision: empty for the target's own.
        images: what it learned from: int8's ranges are found on some of them.
        say: told what is being done.

    Returns:
        `out`.

    Raises:
        EdgekitError: as `edgekit.lower.build.build` does.
    """
    if _is_of(out, path):
        return out
    request = Request(
        target=target,
        model=str(path),
        backend=backend or None,
        precision=precision or None,
        calibration=write_some(images, out.parent / "calibration"),
        out=out,
        force=True,
    )
    build(request, say)
    return out


def write_some(images: Images, folder: Path) -> Path:
    """Write images, evenly spread over the classes, as PNGs into `folder`, if it is not there."""
    if not folder.exists():
        partial = folder.with_name(f".{folder.name}")
        partial.mkdir(parents=True, exist_ok=True)
        for number, index in enumerate(images.spread(CALIBRATION)):
            pixels = np.ascontiguousarray(images.pixels[index][:, :, ::-1])
            cv2.imwrite(str(partial / f"{number:03}.png"), pixels)
        partial.rename(folder)
    return folder


def _is_of(out: Path, path: Path) -> bool:
    """Whether `out` is a whole bundle of the checkpoint `path`."""
    try:
        made = bundle.read(out)
    except BundleError:
        return False
    return made.manifest.provenance.checkpoint_sha256 == checkpoint.digest(path)
