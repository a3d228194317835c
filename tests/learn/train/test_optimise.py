"""The optimiser, the learning rate, and the moving average."""

import copy
import math

import pytest
import torch
from torch import nn

from edgekit.learn.recipe.fit import Fit, Stage
from edgekit.learn.train.optimise import Average, decay_after, optimiser, rate
from tests.learn.train.conftest import small_net


def test_the_rate_rises_linearly_and_falls_by_a_cosine() -> None:
    how = Fit(learning_rate=0.4, epochs=12, warmup_epochs=2)
    assert rate(0.5, how) == pytest.approx(0.1)
    assert rate(2, how) == pytest.approx(0.4)
    assert rate(7, how) == pytest.approx(0.2)
    assert rate(4.5, how) == pytest.approx(0.2 * (1 + math.cos(math.pi / 4)))
    assert rate(12, how) == pytest.approx(0)


def test_the_rate_scales_with_the_batch() -> None:
    assert Fit(0.1, epochs=1, batch=512, reference_batch=256).peak_rate == pytest.approx(0.2)
    assert Fit(0.1, epochs=1, batch=512).peak_rate == 0.1


def test_stages_are_the_epochs() -> None:
    assert Fit(0.1, stages=(Stage(2, 32), Stage(3, 48))).total_epochs == 5


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_biases_and_batch_norm_have_no_weight_decay(kind: str) -> None:
    module = small_net()
    found = optimiser(module, Fit(0.1, epochs=1, optimizer=kind, weight_decay=0.3))  # type: ignore[arg-type]
    decayed = {id(p) for g in found.param_groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {id(p) for p in module.parameters() if p.dim() > 1}
    assert sum(len(g["params"]) for g in found.param_groups) == len(list(module.parameters()))


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_the_fused_step_is_the_plain_one(kind: str) -> None:
    how = Fit(0.01, epochs=1, optimizer=kind, weight_decay=0.1)  # type: ignore[arg-type]
    ours, plain = small_net(norm=False), small_net(norm=False)
    one, other = optimiser(ours, how), optimiser(plain, how)
    for group in other.param_groups:
        group["fused"] = False
    for _ in range(3):
        for module, steps in ((ours, one), (plain, other)):
            steps.zero_grad()
            module(torch.ones(2, 3, 8, 8)).square().sum().backward()
            steps.step()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_the_average_follows_the_weights_and_copies_counters() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    kept = copy.deepcopy(module)
    before = {name: value.clone() for name, value in kept.state_dict().items()}
    for name, value in module.state_dict().items():
        value += {"0.weight": 1, "1.num_batches_tracked": 7, "1.running_mean": 2}.get(name, 0)
    Average(kept, module).follow(0.75)
    found = kept.state_dict()
    torch.testing.assert_close(found["0.weight"], before["0.weight"] + 0.25)
    assert found["1.running_mean"].tolist() == [0.5, 0.5]
    assert found["1.num_batches_tracked"] == 7


def test_the_average_takes_over_what_got_its_size_later() -> None:
    kept, new = nn.Module(), nn.Module()
    kept.register_buffer("least", torch.zeros(0))
    new.register_buffer("least", torch.zeros(0))
    average = Average(kept, new)
    new.get_buffer("least").resize_(3).fill_(2.0)
    average.follow(0.9)
    assert kept.get_buffer("least").tolist() == [2.0, 2.0, 2.0]


def test_the_average_s_decay_warms_up() -> None:
    how = Fit(0.1, epochs=1, average_decay=0.99)
    assert decay_after(0, how) == pytest.approx(0.1)
    assert decay_after(90, how) == pytest.approx(0.91)
    assert decay_after(10**6, how) == 0.99
