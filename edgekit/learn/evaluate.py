"""Top-1 accuracy through the image contract: what a device would answer."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.device.image import prepare
from edgekit.learn.data.source import Images
from edgekit.learn.train.step import normalise
from edgekit.spec import ImageSpec

CPU = torch.device("cpu")


def accuracy(
    module: nn.Module,
    images: Images,
    image: ImageSpec,
    batch: int = 100,
    device: torch.device = CPU,
) -> float:
    """Fraction of `images` whose largest logit is the right one, in float32."""
    module.eval()
    right = 0
    for start in range(0, len(images), batch):
        targets = images.targets[start : start + batch]
        inputs = contract_inputs(images.pixels[start : start + batch], image, device)
        with torch.inference_mode():
            logits = module(inputs)
        right += int(np.count_nonzero(logits.argmax(1).cpu().numpy() == targets))
    return right / len(images)


def contract_inputs(
    pixels: np.ndarray | Sequence[np.ndarray], image: ImageSpec, device: torch.device = CPU
) -> Tensor:
    """Images (H, W, 3) uint8 RGB through the image contract: (N, 3, height, width), normalised."""
    inputs = np.empty((len(pixels), image.height, image.width, 3), np.uint8)
    for each, out in zip(pixels, inputs, strict=True):
        prepare(each, "RGB", image, out)
    return normalise(torch.from_numpy(inputs).to(device), image)
