"""Which loops are compared: file, environment, model, and what each is called in the table."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Peer:
    """One row of the table."""

    name: str
    module: str
    """A file in this folder."""
    environment: str
    """A file in `requirements/`, or "" for edgekit's own."""
    model: str
    """In the folder that `models.py` fills."""
    precision: Literal["fp32", "int8"]
    """What the model computes in, which is what that peer ships for this network."""
    first_class: int = 0
    """1 where the model has a class "background" before ImageNet's."""


OURS = Peer("edgekit", "ours", "", "fp32", "fp32")
OURS_INT8 = Peer("edgekit, int8", "ours", "", "int8", "int8")
PEERS = (
    OURS,
    OURS_INT8,
    Peer("TFLite label_image", "litert_label_image", "runtimes", "float.tflite", "fp32"),
    Peer("ONNX Runtime tutorial", "onnxruntime_tutorial", "runtimes", "planes.onnx", "fp32"),
    Peer("ONNX Runtime tutorial, Pillow", "onnxruntime_pillow", "runtimes", "planes.onnx", "fp32"),
    Peer("MediaPipe, VIDEO", "mediapipe_video", "mediapipe", "mediapipe.tflite", "fp32"),
    Peer("Roboflow pipeline", "roboflow_pipeline", "roboflow", "planes.onnx", "fp32"),
    Peer("OpenCV DNN", "opencv_dnn", "runtimes", "planes.onnx", "fp32"),
    Peer("torchvision, eager", "torchvision_eager", "torch", "torchvision.pt", "fp32"),
    Peer("Ultralytics predict", "ultralytics_predict", "torch", "ultralytics.onnx", "fp32"),
    Peer("Transformers pipeline", "huggingface_pipeline", "torch", "huggingface", "fp32"),
    Peer("label_image, int8, our model", "litert_label_image", "runtimes", "int8.tflite", "int8"),
    Peer(
        "label_image, int8, Google's model",
        "litert_label_image",
        "runtimes",
        "google-int8.tflite",
        "int8",
        first_class=1,
    ),
)
