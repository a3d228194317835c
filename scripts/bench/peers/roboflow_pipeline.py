"""Roboflow's inference package: "Inference Pipeline", custom inference logic.

`InferencePipeline.init_with_custom_logic(video_reference, on_video_frame, on_prediction)` reads,
batches and hands over the frames in threads of its own; the logic is a network of the user's in
ONNX Runtime, prepared as in ONNX Runtime's own tutorial.
MODEL: an ONNX file with a normalised float32 (1, 3, 224, 224) input.
"""

import queue
from collections.abc import Iterator

import numpy as np
import onnxruntime
from inference import InferencePipeline
from inference.core.interfaces.camera.entities import VideoFrame

from scripts.bench.peers import measure
from scripts.bench.peers.onnxruntime_tutorial import preprocess


class Classifier:
    """The user's model, as the page's `MyModel`."""

    def __init__(self, model: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(model, options, providers=providers)
        self._name = self._session.get_inputs()[0].name

    def infer(self, frames: list[VideoFrame]) -> list[int]:
        """One class per frame."""
        return [self._class(frame.image) for frame in frames]

    def _class(self, frame: np.ndarray) -> int:
        (logits,) = self._session.run(None, {self._name: preprocess(frame)})
        return int(np.argmax(logits))


def loop(clip: str, model: str) -> Iterator[int]:
    """The class of each frame, from the pipeline's sink."""
    answers: queue.Queue[int] = queue.Queue(1)

    def sink(prediction: int, frame: VideoFrame) -> None:
        answers.put(prediction)

    pipeline = InferencePipeline.init_with_custom_logic(
        video_reference=clip, on_video_frame=Classifier(model).infer, on_prediction=sink
    )
    pipeline.start(use_main_thread=False)
    while True:
        yield answers.get()


if __name__ == "__main__":
    measure.main(loop, "inference", "onnxruntime", "opencv-python", "numpy")
