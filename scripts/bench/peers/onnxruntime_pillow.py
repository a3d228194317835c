"""ONNX Runtime: "IoT Deployment on Raspberry Pi" of its tutorials, prepared as the page does.

Pillow's Lanczos resize, then mean and deviation plane by plane in a Python loop, `session.run`,
softmax and the five best. Of the page only the JPEG file between camera and Pillow is left out.
MODEL: an ONNX file with a normalised float32 (1, 3, 224, 224) input.
"""

from collections.abc import Iterator

import cv2
import numpy as np
import onnxruntime
from PIL import Image

from scripts.bench.peers import measure
from scripts.bench.peers.onnxruntime_tutorial import MEAN, STD


def preprocess(frame: np.ndarray) -> np.ndarray:
    """(H, W, 3) BGR -> (1, 3, 224, 224) float32."""
    picture = Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    planes = np.asarray(picture.resize((224, 224), Image.Resampling.LANCZOS)).astype(np.float32)
    planes = planes.transpose(2, 0, 1)
    for channel in range(3):
        planes[channel] = (planes[channel] / 255 - MEAN[channel]) / STD[channel]
    return np.expand_dims(planes, 0)


def loop(clip: str, model: str) -> Iterator[int]:
    """The class of each frame."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    capture = cv2.VideoCapture(clip)
    while capture.isOpened():
        read, frame = capture.read()
        if not read:
            break
        logits = session.run([], {"input": preprocess(frame)})[0].flatten()
        exponents = np.exp(logits - logits.max())
        yield int(np.argsort(-exponents / exponents.sum())[:5][0])


if __name__ == "__main__":
    measure.main(loop, "onnxruntime", "pillow", "opencv-python", "numpy")
