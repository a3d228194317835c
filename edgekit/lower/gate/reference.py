"""The image contract a second time, in plain numpy and float64: what the gate starts from.

Written from the words of `spec.ImageSpec`, not from `device.image` or `network.CameraInput`, which
are held to it: a crop that is a pixel off, samples half a pixel off, swapped colours, a
normalisation that is missing or done twice. Slow, and needs nothing but numpy and torch.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.spec import ImageSpec

Span = tuple[int, int]
"""Start and length along one side, in pixels."""


class EagerInput(nn.Module):
    """uint8 (1, H, W, 3) RGB pixels -> the network as it was built, on `planes` of them.

    Its parts have the names of those of `network.CameraInput`, so layers can be compared by name.
    """

    def __init__(self, network: nn.Module, image: ImageSpec):
        super().__init__()
        self.normalise = nn.Identity()
        self.network = network
        self.image = image
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        made = torch.from_numpy(planes(image.numpy(), self.image))
        logits: Tensor = self.network(self.normalise(made))
        return logits


def planes(pixels: np.ndarray, image: ImageSpec) -> np.ndarray:
    """(N, H, W, 3), 0 to 255 -> (N, 3, H, W) float32, `(x / 255 - mean) / std` in float64."""
    normalised = (pixels.astype(np.float64) / 255 - image.mean) / image.std
    return np.ascontiguousarray(np.moveaxis(normalised, -1, 1).astype(np.float32))


def pixels(frame: np.ndarray, image: ImageSpec) -> np.ndarray:
    """A frame (H, W, 3) RGB -> (height, width, 3) float64, 0 to 255, not rounded."""
    (top, tall), (left, wide) = _source(frame.shape[0], frame.shape[1], image)
    box = frame[top : top + tall, left : left + wide].astype(np.float64)
    (above, high), (beside, broad) = _target(frame.shape[0], frame.shape[1], image)
    area = image.interpolation == "area" and tall >= high and wide >= broad
    weigh = _covered if area else _nearest_two
    resized = np.einsum("yh,hwc,xw->yxc", weigh(tall, high), box, weigh(wide, broad), optimize=True)
    made = np.full((image.height, image.width, 3), float(image.fill))
    made[above : above + high, beside : beside + broad] = resized
    return made


def _source(height: int, width: int, image: ImageSpec) -> tuple[Span, Span]:
    """Which rows and columns of the frame are used."""
    if image.fit != "crop":
        return (0, height), (0, width)
    scale = min(width / image.width, height / image.height) * image.crop_fraction
    return _middle(image.height * scale, height), _middle(image.width * scale, width)


def _target(height: int, width: int, image: ImageSpec) -> tuple[Span, Span]:
    """Which rows and columns of the input they become."""
    if image.fit != "letterbox":
        return (0, image.height), (0, image.width)
    scale = min(image.width / width, image.height / height)
    return _middle(height * scale, image.height), _middle(width * scale, image.width)


def _middle(length: float, whole: int) -> Span:
    size = min(max(math.floor(length + 0.5), 1), whole)
    return (whole - size) // 2, size


def _nearest_two(size: int, wanted: int) -> np.ndarray:
    """(wanted, size) weights of linear interpolation at half-pixel centres, the edge repeated."""
    centres = np.clip((np.arange(wanted) + 0.5) * size / wanted - 0.5, 0, size - 1)
    return np.clip(1 - np.abs(centres[:, None] - np.arange(size)), 0, None)


def _covered(size: int, wanted: int) -> np.ndarray:
    """(wanted, size) weights of the mean over what each wanted pixel covers."""
    ends = np.arange(wanted + 1) * size / wanted
    start, stop = ends[:-1, None], ends[1:, None]
    source = np.arange(size)
    shared = np.minimum(stop, source + 1) - np.maximum(start, source)
    return np.clip(shared, 0, None) * wanted / size
