"""An ONNX file whose batch is free, run on several images at once; for the gate, on the host."""

import os
from pathlib import Path

import numpy as np

from edgekit.errors import BundleError, MissingPackage


def run_batch(model: Path, images: np.ndarray) -> np.ndarray:
    """Logits of all `images` in one run.

    Args:
        model: the file.
        images: (N, H, W, 3) uint8.

    Returns:
        (N, classes) float32.

    Raises:
        MissingPackage: onnxruntime is not installed.
        BundleError: ONNX Runtime refuses the file, or so many images.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackage("onnxruntime", "onnx", "running an ONNX bundle") from error
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            model.read_bytes(), settings, providers=["CPUExecutionProvider"]
        )
        logits: np.ndarray = session.run(None, {session.get_inputs()[0].name: images})[0]
    except Exception as error:  # the runtime's own classes share no other base
        reason = " ".join(str(error).split())
        raise BundleError(f"ONNX Runtime refuses {len(images)} images at once: {reason}") from error
    return logits
