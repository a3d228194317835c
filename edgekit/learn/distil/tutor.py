"""A teacher that is ready to be asked: pixels in, logits out, whatever runs it."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekit.learn.train.step import normalise, planes_of
from edgekit.spec import ImageSpec


class Tutor(Protocol):
    """A teacher, opened. `close()` frees what it holds."""

    name: str
    """For people."""
    digest: str
    """SHA-256 of all that its answers depend on beside the pixels."""
    size: tuple[int, int]
    """(height, width) of the images that it takes."""
    outputs: int
    labels: tuple[str, ...]
    """Of its outputs; empty where they have no names."""

    def answer(self, pixels: Tensor) -> Tensor:
        """(B, *size, 3) uint8 RGB -> (B, outputs) float32, on the same device; no gradient."""

    def close(self) -> None: ...


class NetworkTutor:
    """A network in torch."""

    def __init__(
        self,
        module: nn.Module,
        image: ImageSpec,
        name: str,
        digest: str,
        outputs: int,
        labels: tuple[str, ...],
        bf16: bool,
    ) -> None:
        """`module` is in eval mode, frozen, and nobody else's."""
        self.module, self.name, self.digest = module, name, digest
        self.outputs, self.labels = outputs, labels
        self.size = (image.height, image.width)
        self._image, self._bf16 = image, bf16

    def answer(self, pixels: Tensor) -> Tensor:
        # Not inference_mode: a loss keeps what it returns for its gradient.
        with torch.no_grad(), torch.autocast(pixels.device.type, torch.bfloat16, self._bf16):
            return self.module(normalise(pixels, self._image)).float()

    def close(self) -> None:
        """Nothing is held but memory."""


class RuntimeTutor:
    """A model file in a runtime, several times over: each thread runs one of its own."""

    def __init__(
        self,
        runs: Sequence[Callable[[np.ndarray], np.ndarray]],
        close: Callable[[], None],
        name: str,
        digest: str,
        size: tuple[int, int],
        outputs: int,
        labels: tuple[str, ...],
    ) -> None:
        """Each of `runs` takes (n, *size, 3) uint8 and gives (n, outputs) float32."""
        self.name, self.digest, self.size = name, digest, size
        self.outputs, self.labels = outputs, labels
        self._runs, self._close = runs, close
        self._pool = ThreadPoolExecutor(len(runs), thread_name_prefix="teacher")

    def answer(self, pixels: Tensor) -> Tensor:
        shares = np.array_split(pixels.cpu().numpy(), len(self._runs))
        answers = self._pool.map(lambda run, share: run(share), self._runs, shares)
        return torch.from_numpy(np.concatenate(list(answers))).to(pixels.device)

    def close(self) -> None:
        self._pool.shutdown()
        self._close()


def camera_pixels(inputs: Tensor, image: ImageSpec) -> Tensor:
    """Undo `normalise`: (B, 3, H, W) float -> (B, H, W, 3) uint8, rounded.

    Exact for what came from uint8; MixUp's mixtures lose up to half a step.
    """
    mean, std = (planes_of(value, inputs.device) for value in (image.mean, image.std))
    levels = ((inputs.float() * std + mean) * 255).round().clamp(0, 255)
    return levels.to(torch.uint8).permute(0, 2, 3, 1)


def resized(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, *size, 3) uint8, the whole image, bilinear.

    Where it shrinks, the triangle is widened to cover what is left out (anti-aliased).
    """
    if tuple(pixels.shape[1:3]) == size:
        return pixels
    planes = pixels.permute(0, 3, 1, 2).float()
    scaled = F.interpolate(planes, size, mode="bilinear", antialias=True)
    return scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
