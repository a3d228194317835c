"""Top-1 accuracy through the image contract: what a device would answer."""

import numpy as np
import torch
from torch import nn

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
    inputs = np.empty((batch, image.height, image.width, 3), np.uint8)
    right = 0
    for start in range(0, len(images), batch):
        targets = images.targets[start : start + batch]
        for pixels, out in zip(images.pixels[start : start + batch], inputs, strict=False):
            prepare(pixels, "RGB", image, out)
        with torch.inference_mode():
            logits = module(normalise(torch.from_numpy(inputs[: len(targets)]).to(device), image))
        right += int(np.count_nonzero(logits.argmax(1).cpu().numpy() == targets))
    return right / len(images)
