"""MediaPipe Tasks: "Image classification guide for Python", running mode VIDEO.

MODEL: a float TFLite file with metadata that states its normalisation. The delegate is the CPU's
default; MediaPipe has no option for its number of threads, so the core it is pinned to limits it.
"""

from collections.abc import Iterator

import cv2
import mediapipe as mp
from mediapipe.tasks import python
from mediapipe.tasks.python import vision

from scripts.bench.peers import measure


def loop(clip: str, model: str) -> Iterator[int]:
    """The class of each frame."""
    options = vision.ImageClassifierOptions(
        base_options=python.BaseOptions(model_asset_path=model),
        running_mode=vision.RunningMode.VIDEO,
        max_results=1,
    )
    capture = cv2.VideoCapture(clip)
    fps = capture.get(cv2.CAP_PROP_FPS)
    with vision.ImageClassifier.create_from_options(options) as classifier:
        number = 0
        while capture.isOpened():
            read, frame = capture.read()
            if not read:
                break
            pixels = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            image = mp.Image(image_format=mp.ImageFormat.SRGB, data=pixels)
            result = classifier.classify_for_video(image, int(number * 1000 / fps))
            yield int(result.classifications[0].categories[0].index)
            number += 1


if __name__ == "__main__":
    measure.main(loop, "mediapipe", "opencv-contrib-python", "numpy")
