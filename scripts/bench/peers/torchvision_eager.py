"""torchvision: "Models and pre-trained weights", initialise, `weights.transforms()`, predict.

The page's steps on each frame: a uint8 tensor, the weights' own preprocessing (resize to 256, crop
to 224, normalise), the model in eval mode, softmax. The weights come from a file, not the network.
MODEL: a state dict of `torchvision.models.mobilenet_v2`.
"""

from collections.abc import Iterator

import cv2
import torch

from scripts.bench.peers import (
    loose_torchvision,  # noqa: F401  (first of all)
    measure,  # isort: split
)

from torchvision.models import MobileNet_V2_Weights, mobilenet_v2


def loop(clip: str, model: str) -> Iterator[int]:
    """The class of each frame."""
    torch.set_num_threads(1)
    network = mobilenet_v2()
    network.load_state_dict(torch.load(model))
    network.eval()
    preprocess = MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    capture = cv2.VideoCapture(clip)
    with torch.inference_mode():
        while capture.isOpened():
            read, frame = capture.read()
            if not read:
                break
            image = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            batch = preprocess(torch.from_numpy(image).permute(2, 0, 1)).unsqueeze(0)
            yield int(network(batch).squeeze(0).softmax(0).argmax())


if __name__ == "__main__":
    measure.main(loop, "torchvision", "torch", "opencv-python")
