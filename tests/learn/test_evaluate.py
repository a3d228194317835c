"""Accuracy is measured through the image contract."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.learn.data import Images
from edgekit.learn.evaluate import accuracy
from edgekit.spec import ImageSpec


class Brightest(nn.Module):
    """Answers the channel whose middle pixel is brightest; checks what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1:] == (3, 8, 8)
        return x[:, :, 4, 4]


@pytest.mark.parametrize("batch", [1, 5, 24, 100])
def test_the_fraction_of_right_answers(images: Images, batch: int) -> None:
    image = ImageSpec(8, 8, interpolation="area", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    assert accuracy(Brightest(), images, image, batch) == 1
    some = Images(images.pixels, np.roll(images.targets, 2))
    assert accuracy(Brightest(), some, image, batch) == pytest.approx(18 / 24)


def test_dropout_and_batch_norm_are_still(images: Images) -> None:
    norm = nn.BatchNorm2d(3)
    module = nn.Sequential(norm, Brightest(), nn.Dropout(0.9)).train()
    accuracy(module, images, ImageSpec(8, 8))
    assert norm.running_mean is not None
    assert torch.equal(norm.running_mean, torch.zeros(3))
