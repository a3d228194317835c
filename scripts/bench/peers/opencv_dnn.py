"""OpenCV's own inference: `samples/dnn/classification.py`, "Deep Neural Networks (dnn module)".

MODEL: an ONNX file with a normalised float32 (1, 3, 224, 224) input. As the sample does with
`--std`, the blob is divided by the deviation after `blobFromImage`.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from scripts.bench.peers import measure

MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
STD = np.array([0.229, 0.224, 0.225], np.float32).reshape(3, 1, 1)


def loop(clip: str, model: str) -> Iterator[int]:
    """The class of each frame."""
    cv2.setNumThreads(1)
    net = cv2.dnn.readNet(model)
    capture = cv2.VideoCapture(clip)
    while True:
        read, frame = capture.read()
        if not read:
            break
        blob = cv2.dnn.blobFromImage(frame, 1 / 255, (224, 224), MEAN, swapRB=True, crop=False)
        blob[0] /= STD
        net.setInput(blob)
        yield int(np.argmax(net.forward()))


if __name__ == "__main__":
    measure.main(loop, "opencv-python", "numpy")
