"""MixUp and CutMix: what is mixed, and by how much."""

import numpy as np
import pytest
import torch

from edgekit.learn.data.deal import Deal, mixing
from edgekit.learn.recipe.data import Augment


@pytest.mark.parametrize("size", [(8, 8), (7, 13), (32, 32)])
def test_cutmix_shares_by_pixels_exactly(size: tuple[int, int]) -> None:
    deal = Deal(Augment(cutmix=1.0), 6, 1)
    ones = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 1, *size)
    shares, covered = [], np.zeros(size)
    for step in range(400):
        mixed = mixing(deal, 0, step, 6, size)
        assert mixed is not None
        inputs = mixed.inputs(ones)
        for j in range(6):
            own = (inputs[j] == j).double().mean().item()
            assert own == pytest.approx(mixed.share, abs=1e-12)
        covered += (inputs[0, 0] != 0).numpy()
        answers = mixed.answers(torch.eye(6))
        torch.testing.assert_close(answers.sum(1), torch.ones(6))
        assert answers[0, 0] == pytest.approx(mixed.share)
        assert answers[0, 1] == pytest.approx(1 - mixed.share)
        shares.append(mixed.share)
    counts = np.histogram(shares, 4, (0, 1))[0]
    assert counts.min() > 55, "Beta(1, 1) is uniform"
    assert covered.min() > 10, "everywhere, but less at the border"


def test_mixup_is_a_weighted_mean_of_neighbours() -> None:
    deal = Deal(Augment(mixup=0.2), 5, 1)
    inputs = torch.randn(5, 3, 4, 4)
    shares = []
    for step in range(500):
        mixed = mixing(deal, 1, step, 5, (4, 4))
        assert mixed is not None
        assert mixed.box is None
        assert mixed.order.tolist() == [1, 0, 3, 2, 4]
        wanted = mixed.share * inputs + (1 - mixed.share) * inputs[mixed.order]
        torch.testing.assert_close(mixed.inputs(inputs), wanted)
        torch.testing.assert_close(mixed.inputs(inputs)[4], inputs[4])
        shares.append(mixed.share)
    near = np.mean(np.minimum(shares, 1 - np.array(shares)) < 0.1)
    assert 0.6 < near < 0.8, "Beta(0.2, 0.2) is mostly near 0 or 1"


def test_both_take_turns_by_even_chance() -> None:
    deal = Deal(Augment(mixup=0.2, cutmix=1.0), 4, 1)
    found = [mixing(deal, 0, step, 4, (9, 9)) for step in range(400)]
    cut = np.mean([mixed is not None and mixed.box is not None for mixed in found])
    assert 0.42 < cut < 0.58


def test_without_either_nothing_is_mixed() -> None:
    assert mixing(Deal(Augment(), 4, 1), 0, 0, 4, (9, 9)) is None
