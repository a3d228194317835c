"""The bare runtime from nothing to a first answer, with numpy: no bundle, nothing verified.

    python scripts/bench/cold/bare.py MODEL LABELS IMAGE

MODEL: `.tflite` or `.onnx`, taking uint8 pixels. IMAGE: pixels at the model's size (`.npy`), or a
photograph, read, cropped and resized with OpenCV as our image contract says.
"""

import os
import sys

import numpy as np


def pixels(path: str, side: int) -> np.ndarray:
    """(1, side, side, 3) uint8 RGB."""
    if path.endswith(".npy"):
        return np.asarray(np.load(path))
    import cv2

    image = cv2.imread(path)
    assert image is not None
    box = round(min(image.shape[:2]) * 0.875)
    top, left = (image.shape[0] - box) // 2, (image.shape[1] - box) // 2
    small = cv2.resize(image[top : top + box, left : left + box], (side, side))
    return cv2.cvtColor(small, cv2.COLOR_BGR2RGB)[np.newaxis]


model, labels, image = sys.argv[1:4]
if model.endswith(".tflite"):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model, num_threads=1)
    interpreter.allocate_tensors()
    place = interpreter.get_input_details()[0]
    interpreter.set_tensor(place["index"], pixels(image, int(place["shape"][1])))
    interpreter.invoke()
    logits = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
else:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    (logits,) = session.run(None, {given.name: pixels(image, given.shape[1])})
with open(labels, encoding="utf-8") as file:
    label = file.read().splitlines()[int(logits.argmax())]
from scripts.bench.cold import done  # noqa: E402  (what the answer did not need)

done.tell(label)
