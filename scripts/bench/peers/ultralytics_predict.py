"""Ultralytics: "Model Prediction with Ultralytics YOLO", a streaming loop over a video file.

Of the network an ONNX file in the form of its own classification exports: float32 in [0, 1] in,
probabilities out. MODEL: that file.
"""

from collections.abc import Iterator

import torch

from scripts.bench.peers import (
    loose_torchvision,  # noqa: F401  (first of all)
    measure,  # isort: split
)

from ultralytics import YOLO


def loop(clip: str, model: str) -> Iterator[int]:
    """The class of each frame."""
    torch.set_num_threads(1)
    classifier = YOLO(model, task="classify")
    for result in classifier(clip, stream=True, imgsz=224, device="cpu", verbose=False):
        yield int(result.probs.top1)


if __name__ == "__main__":
    measure.main(loop, "ultralytics", "onnxruntime", "torch", "opencv-python")
