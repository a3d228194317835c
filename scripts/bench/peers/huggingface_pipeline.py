"""Hugging Face Transformers: "Pipeline", `pipeline("image-classification")` on Pillow images.

MODEL: a folder with MobileNetV2's configuration, preprocessing and weights, as `save_pretrained`
writes it.
"""

from collections.abc import Iterator
from typing import Any

import cv2
import torch
from PIL import Image

from scripts.bench.peers import (
    loose_torchvision,  # noqa: F401  (first of all)
    measure,  # isort: split
)

from transformers import pipeline


def loop(clip: str, model: str) -> Iterator[int]:
    """The class of each frame."""
    torch.set_num_threads(1)
    classifier: Any = pipeline("image-classification", model=model, device="cpu")
    number = classifier.model.config.label2id
    capture = cv2.VideoCapture(clip)
    while capture.isOpened():
        read, frame = capture.read()
        if not read:
            break
        image = Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        yield int(number[classifier(image)[0]["label"]])


if __name__ == "__main__":
    measure.main(loop, "transformers", "torch", "torchvision", "opencv-python")
