"""Small networks with seeded weights, and images to run them on."""

import copy
import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.lower import export
from edgekit.lower.calibrate import Images, from_photographs
from edgekit.lower.network import CameraInput, Network, fold_batch_norm
from edgekit.spec import ImageSpec

IMAGE = ImageSpec(32, 32)


class Mixed(nn.Module):
    """Every operator that the quantiser knows: (N, 3, H, W) -> (N, 10), with batch norm."""

    def __init__(self, activation: Callable[[], nn.Module] = nn.ReLU6) -> None:
        super().__init__()

        def unit(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
            conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(c_out), activation())

        self.stem = unit(3, 12, 3, stride=2)
        self.expand = unit(12, 24, 1)
        self.depthwise = unit(24, 24, 3, groups=24)
        self.project = nn.Sequential(nn.Conv2d(24, 12, 1, bias=False), nn.BatchNorm2d(12))
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.left = unit(12, 8, 1)
        self.right = unit(12, 8, 3)
        self.narrow = unit(16, 16, 3, stride=2)
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Linear(16, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.project(self.depthwise(self.expand(x)))
        x = self.pool(x)
        x = torch.cat((self.left(x), self.right(x)), dim=1)
        x = self.narrow(x).mean(dim=(2, 3))
        logits: Tensor = self.classifier(x)
        return logits


def settled(module: nn.Module, images: Images) -> nn.Module:
    """Batch norm's statistics are those of the images, as after training; eval mode."""
    pixels = torch.from_numpy(np.concatenate(images.inputs)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGE.mean, IMAGE.std))
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.momentum = None
        elif isinstance(child, nn.Linear):
            nn.init.normal_(child.weight, 0, 1)
    with torch.no_grad():
        module.train()((pixels - mean) / std)
    return module.eval()


@pytest.fixture(scope="session")
def images() -> Images:
    """40 views of photographs, 32x32."""
    return from_photographs(IMAGE, 40)


@pytest.fixture(scope="session")
def tensors(images: Images) -> list[Tensor]:
    """The same, as the lowered network takes them."""
    return [torch.from_numpy(tensor) for tensor in images.inputs]


@pytest.fixture(scope="session")
def make_mixed(images: Images) -> Callable[[type[nn.Module]], nn.Module]:
    """A `Mixed` with an activation of one's choice, in eval mode, batch norm not folded."""

    def make(activation: type[nn.Module]) -> nn.Module:
        torch.manual_seed(0)
        return settled(Mixed(activation), images)

    return make


@pytest.fixture(scope="session")
def mixed_unfolded(make_mixed: Callable[[type[nn.Module]], nn.Module]) -> nn.Module:
    """Not to be changed."""
    return make_mixed(nn.ReLU6)


@pytest.fixture(scope="session")
def mixed(mixed_unfolded: nn.Module) -> Network:
    """A network ready to lower; not to be changed."""
    module = fold_batch_norm(copy.deepcopy(mixed_unfolded))
    return Network("mixed", module, IMAGE, tuple("abcdefghij"), {}, checkpoint_sha256="")


@pytest.fixture(scope="session")
def mixed_whole(mixed: Network, mixed_unfolded: nn.Module) -> Network:
    """The same network before folding; not to be changed."""
    return dataclasses.replace(mixed, module=mixed_unfolded)


@pytest.fixture(scope="session")
def eager(mixed: Network) -> CameraInput:
    """Camera pixels to logits; not to be changed."""
    return export.with_camera_input(mixed)


@pytest.fixture(scope="session")
def program(mixed: Network, eager: CameraInput) -> torch.export.ExportedProgram:
    """Float, exported; not to be changed."""
    return export.export(eager, export.example(mixed))
