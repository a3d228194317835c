"""The loss, against numbers computed by hand."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekit.learn.distil.objective import Distilling, mean_answer, soft_loss
from edgekit.learn.recipe.steps import Distill, Teacher
from edgekit.learn.train.objective import Labels, Part

HOT = torch.tensor([[0.0, 1.0]])
"""The label is the second of two classes."""


def distill(alpha: float, temperature: float, *weights: float) -> Distill:
    teachers = tuple(Teacher("before", weight=weight) for weight in weights or (1.0,))
    return Distill(teachers, temperature, alpha)


def test_the_soft_part_by_hand() -> None:
    # Teacher (3/4, 1/4) and student (1/2, 1/2) at T = 2: KL = 3/4 ln(3/2) + 1/4 ln(1/2).
    logits, wanted = torch.zeros(1, 2), torch.tensor([[0.75, 0.25]])
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    found = soft_loss(logits, wanted, HOT, distill(alpha=1, temperature=2))
    assert found.item() == pytest.approx(4 * divergence, rel=1e-6)


def test_the_labels_have_the_rest() -> None:
    # Student logits (0, ln 4) at T = 2: (1/3, 2/3); at T = 1: (1/5, 4/5).
    logits, wanted = torch.tensor([[0.0, math.log(4)]]), torch.tensor([[0.5, 0.5]])
    divergence = 0.5 * math.log(0.5 * 3) + 0.5 * math.log(0.5 * 3 / 2)
    found = soft_loss(logits, wanted, HOT, distill(alpha=0.25, temperature=2))
    assert found.item() == pytest.approx(0.25 * 4 * divergence + 0.75 * -math.log(0.8), rel=1e-6)


def test_the_loss_is_the_mean_over_images() -> None:
    logits, wanted = torch.randn(6, 5), torch.rand(6, 5).softmax(1)
    labels, how = F.one_hot(torch.arange(6) % 5).float(), distill(0.3, 3)
    rows = [slice(i, i + 1) for i in range(6)]
    each = [soft_loss(logits[i], wanted[i], labels[i], how) for i in rows]
    torch.testing.assert_close(soft_loss(logits, wanted, labels, how), torch.stack(each).mean())


def test_the_gradient_keeps_its_size_at_any_temperature() -> None:
    # Hinton et al., section 2.1: at a high T it tends to (student - teacher logits) / classes,
    # where both have a mean of zero.
    ours, theirs = (torch.tensor([v], requires_grad=True) for v in ([1.0, -1, 0], [0.0, 2, -2]))
    how = distill(1, 1000)
    loss = soft_loss(ours, mean_answer([theirs.detach()], [1], 1000), torch.eye(3)[:1], how)
    loss.backward()
    torch.testing.assert_close(ours.grad, (ours - theirs).detach() / 3, rtol=2e-3, atol=1e-5)


def test_a_teacher_that_agrees_leaves_no_soft_loss() -> None:
    logits = torch.randn(4, 7)
    found = soft_loss(logits, mean_answer([logits], [2.5], 3), torch.eye(7)[:4], distill(1, 3))
    assert found.abs() < 1e-6


def test_several_teachers_are_a_weighted_mean_of_probabilities() -> None:
    # (3/4, 1/4) three times and (1/4, 3/4) once: (5/8, 3/8), at T = 2.
    one = 2 * torch.tensor([[0.75, 0.25]]).log()
    found = mean_answer([one, one.flip(1) + 7], [3, 1], 2)
    torch.testing.assert_close(found, torch.tensor([[0.625, 0.375]]))


@pytest.fixture
def part() -> Part:
    torch.manual_seed(3)
    labels = F.one_hot(torch.arange(4) % 3, 3).float()
    return Part(torch.randn(4, 3, 2, 2), labels, torch.arange(4), torch.zeros(4).long())


def test_without_a_share_of_the_teachers_it_is_the_labels_loss(part: Part) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))

    def says(part: Part) -> Tensor:
        return torch.randn(4, 3)

    found = Distilling(distill(0, 4), [says]).loss(module, part)
    torch.testing.assert_close(found, Labels().loss(module, part))


def test_the_objective_asks_each_teacher_about_the_part(part: Part) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    said = [torch.randn(4, 3), torch.randn(4, 3)]
    how = distill(0.6, 2, 1.0, 3.0)

    def says(logits: Tensor, asked: Part) -> Tensor:
        assert asked is part
        return logits

    sources = [partial(says, logits) for logits in said]
    wanted = (F.softmax(said[0] / 2, 1) + 3 * F.softmax(said[1] / 2, 1)) / 4
    found = Distilling(how, sources).loss(module, part)
    torch.testing.assert_close(found, soft_loss(module(part.inputs), wanted, part.answers, how))
