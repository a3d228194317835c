"""What holds masked weights at zero, against all that could move them."""

import copy

import pytest
import torch
from torch import nn

from edgekit.learn.prune.rules import Held, Remember, Shrink
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.train.optimise import optimiser

OPTIMISERS = [
    Fit(learning_rate=0.1, epochs=1, optimizer="sgd", momentum=0.9, weight_decay=0.1),
    Fit(learning_rate=0.1, epochs=1, optimizer="adamw", weight_decay=0.1),
]


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))


def learn(module: nn.Module, how: Fit, held: Held, steps: int) -> list[torch.Tensor]:
    """A few steps; returns the gradients of the first layer."""
    chosen, found = optimiser(module, how), []
    for _ in range(steps):
        module(torch.randn(8, 6)).square().sum().backward()
        gradient = module.get_parameter("0.weight").grad
        assert gradient is not None
        found.append(gradient.clone())
        chosen.step()
        chosen.zero_grad()
        held.after_step(module)
    return found


@pytest.mark.parametrize("how", OPTIMISERS, ids=lambda how: how.optimizer)
def test_neither_momentum_nor_weight_decay_revives_a_masked_weight(how: Fit) -> None:
    module = net()
    stays = torch.rand(5, 6) > 0.5
    before = module.get_parameter("0.weight").detach().clone()
    with Held(module, {"0.weight": stays}) as held:
        gradients = learn(module, how, held, 5)
    after = module.get_parameter("0.weight").detach()
    assert not after[~stays].any()
    assert (after[stays] != before[stays]).all()
    assert not any(gradient[~stays].any() for gradient in gradients)  # nor are they in its norm


def test_momentum_from_before_does_not_either() -> None:
    module, how = net(), OPTIMISERS[0]
    chosen = optimiser(module, how)
    module(torch.randn(8, 6)).square().sum().backward()
    chosen.step()
    chosen.zero_grad()
    stays = torch.rand(5, 6) > 0.5
    with Held(module, {"0.weight": stays}) as held:
        module(torch.randn(8, 6)).square().sum().backward()
        chosen.step()
        assert module.get_parameter("0.weight")[~stays].any()
        held.after_step(module)
    assert not module.get_parameter("0.weight")[~stays].any()


def test_after_the_block_weights_are_free_again() -> None:
    module = net()
    stays = torch.rand(5, 6) > 0.5
    with Held(module, {"0.weight": stays}):
        pass
    module(torch.randn(8, 6)).square().sum().backward()
    gradient = module.get_parameter("0.weight").grad
    assert gradient is not None
    assert gradient[~stays].any()


def test_a_copy_that_is_made_meanwhile_has_the_zeros_and_is_not_held() -> None:
    module = net()
    stays = torch.rand(5, 6) > 0.5
    with Held(module, {"0.weight": stays}):
        other = copy.deepcopy(module)
        assert not other.get_parameter("0.weight")[~stays].any()
        other(torch.randn(8, 6)).square().sum().backward()
        gradient = other.get_parameter("0.weight").grad
        assert gradient is not None
        assert gradient[~stays].any()


def test_the_penalty_is_the_sum_of_absolute_weights() -> None:
    module = net()
    penalty = Shrink([module.get_parameter("0.weight")], 0.5).penalty(module)
    assert penalty is not None
    assert penalty.item() == pytest.approx(
        0.5 * module.get_parameter("0.weight").abs().sum().item()
    )
    penalty.backward()
    gradient = module.get_parameter("0.weight").grad
    assert gradient is not None
    assert torch.equal(gradient, 0.5 * module.get_parameter("0.weight").sign())
    assert module.get_parameter("2.weight").grad is None


def test_weights_are_remembered_when_their_epoch_begins() -> None:
    seen: list[nn.Module] = []
    module, rules = net(), Remember(1, seen.append)
    rules.begin_epoch(module, 0, 3)
    assert not seen
    rules.begin_epoch(module, 1, 3)
    rules.begin_epoch(module, 2, 3)
    assert seen == [module]
