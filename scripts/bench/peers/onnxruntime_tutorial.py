"""ONNX Runtime: "IoT Deployment on Raspberry Pi" of its tutorials, with OpenCV and numpy.

The page classifies one frame of a camera with MobileNetV2: it writes the frame to a JPEG, opens
that with Pillow, resizes, normalises plane by plane in a Python loop, and calls `session.run`. This
is the loop that people make of it, without the file and with the faster packages; the page's own
preprocessing is in `onnxruntime_pillow.py`.
MODEL: an ONNX file with a normalised float32 (1, 3, 224, 224) input.
"""

from collections.abc import Iterator

import cv2
import numpy as np
import onnxruntime

from scripts.bench.peers import measure

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def preprocess(frame: np.ndarray) -> np.ndarray:
    """(H, W, 3) BGR -> (1, 3, 224, 224) float32."""
    image = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    image = cv2.resize(image, (224, 224)).astype(np.float32) / 255
    image = (image - MEAN) / STD
    return np.ascontiguousarray(image.transpose(2, 0, 1)[np.newaxis])


def loop(clip: str, model: str) -> Iterator[int]:
    """The class of each frame."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    capture = cv2.VideoCapture(clip)
    while capture.isOpened():
        read, frame = capture.read()
        if not read:
            break
        (logits,) = session.run(None, {name: preprocess(frame)})
        yield int(np.argmax(logits))


if __name__ == "__main__":
    measure.main(loop, "onnxruntime", "opencv-python", "numpy")
