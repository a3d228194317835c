"""TensorFlow Lite's `label_image.py` (tensorflow/lite/examples/python) on a camera's frames.

Its preprocessing and calls are kept: resize, add the batch axis, `(x - 127.5) / 127.5` where the
model is float, `set_tensor`, `invoke`, `get_tensor`, `squeeze`. It reads one image with Pillow; a
frame is resized with OpenCV here, as the camera versions of it do, which is faster.
MODEL: a TFLite file with a (1, 224, 224, 3) input, uint8 pixels or float32 in [-1, 1].
"""

from collections.abc import Iterator

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from scripts.bench.peers import measure

INPUT_MEAN, INPUT_STD = 127.5, 127.5


def loop(clip: str, model: str) -> Iterator[int]:
    """The class of each frame."""
    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    input_details = interpreter.get_input_details()
    output_details = interpreter.get_output_details()
    floating = input_details[0]["dtype"] == np.float32
    height, width = input_details[0]["shape"][1:3]
    capture = cv2.VideoCapture(clip)
    while capture.isOpened():
        read, frame = capture.read()
        if not read:
            break
        image = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), (int(width), int(height)))
        data = np.expand_dims(image, axis=0)
        if floating:
            data = (np.float32(data) - INPUT_MEAN) / INPUT_STD  # type: ignore[assignment]
        interpreter.set_tensor(input_details[0]["index"], data)
        interpreter.invoke()
        results = np.squeeze(interpreter.get_tensor(output_details[0]["index"]))
        yield int(results.argsort()[-5:][::-1][0])


if __name__ == "__main__":
    measure.main(loop, "ai-edge-litert", "opencv-python", "numpy")
