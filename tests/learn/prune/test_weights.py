"""Pruning by magnitude, after an L1 penalty, and n of m."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from edgekit import checkpoint
from edgekit.errors import CheckpointError, SpecError, UnknownName
from edgekit.learn import chain
from edgekit.learn.prune.masks import prunable, pruned_before, zeros
from edgekit.learn.prune.step import prune
from edgekit.learn.recipe.recipe import Recipe
from edgekit.learn.recipe.steps import PruneStep, TrainStep
from edgekit.learn.work import Student, Work
from edgekit.lower.load import load_network
from tests.learn.prune.conftest import SHORT, Fatal, Killed, Make, gone, same, without_steps


@pytest.mark.parametrize("rounds", [1, 3])
def test_the_number_of_zeros_is_exact_over_all_layers(pruning: Make, rounds: int) -> None:
    step, student, work = pruning("magnitude", sparsity=0.73, rounds=rounds)
    weights = prunable(student.module)
    count = sum(weight.numel() for weight in weights.values())
    module = prune(step, student, work).module
    assert gone(module, list(weights)).sum() == round(0.73 * count)


def test_the_number_of_zeros_is_exact_in_each_layer(pruning: Make) -> None:
    step, student, work = pruning("magnitude", sparsity=0.6, scope="layer", rounds=2)
    weights = prunable(student.module)
    module = prune(step, student, work).module
    wanted = [round((1 - (1 - 0.6)) * weight.numel()) for weight in weights.values()]
    assert gone(module, list(weights)).tolist() == wanted


def test_the_rest_is_trained_on_and_the_student_before_is_as_it_was(pruning: Make) -> None:
    step, student, work = pruning("magnitude", sparsity=0.5)
    before = {name: value.clone() for name, value in student.module.state_dict().items()}
    module = prune(step, student, work).module
    after = module.state_dict()
    assert all(torch.equal(v, before[n]) for n, v in student.module.state_dict().items())
    assert not any(torch.equal(after[n], before[n]) for n in prunable(module))
    assert not module.training


def test_without_training_the_largest_weights_are_as_they_were(pruning: Make) -> None:
    step, student, work = pruning("magnitude", sparsity=0.5, fit=without_steps(SHORT))
    module = prune(step, student, work).module
    old, new = (flat(m) for m in (student.module, module))
    assert torch.equal(new[new != 0], old[new != 0])
    assert new[new != 0].abs().min() >= old[new == 0].abs().max()


def flat(module: torch.nn.Module) -> Tensor:
    """All weights that may be pruned."""
    return torch.cat([weight.detach().flatten() for weight in prunable(module).values()])


def test_the_penalty_makes_weights_smaller_before_the_smallest_go(pruning: Make) -> None:
    sizes = []
    for penalty in (1e-9, 1.0):
        step, student, work = pruning(
            "l1", folder=f"{penalty}", sparsity=0.5, penalty=penalty, keep=("6",)
        )
        module = prune(step, student, work).module
        assert (module.get_parameter("6.weight") != 0).all()
        sizes.append(flat(module).abs().sum())
        assert {path.name for path in work.folder.glob("*.state.pt")} == {
            "shrink.state.pt",
            "round-1.state.pt",
        }
    assert sizes[1] < 0.98 * sizes[0]


def test_two_of_four_are_left_and_layers_of_other_widths_are_named(pruning: Make) -> None:
    step, student, work = pruning("n:m", watch=(watch := Fatal()), n=2, m=4)
    module = prune(step, student, work).module
    weights = prunable(module)
    pruned = [name for name, weight in weights.items() if not weight.all()]
    dense = set(weights) - set(pruned)
    assert pruned
    for name in pruned:
        groups = weights[name].detach().movedim(1, -1).unflatten(-1, (-1, 4))
        assert ((groups != 0).sum(-1) == 2).all()
    assert {weights[name].shape[1] % 4 == 0 for name in dense} <= {False}
    assert all(any(name in line for line in watch.lines) for name in dense)


def test_a_width_that_no_layer_has_is_refused(pruning: Make) -> None:
    step, student, work = pruning("n:m", n=1, m=1009)
    with pytest.raises(SpecError, match="no layer's input channels are a multiple of 1009"):
        prune(step, student, work)


def test_an_unknown_layer_to_keep_is_refused(pruning: Make) -> None:
    step, student, work = pruning("magnitude", sparsity=0.5, keep=("head",))
    with pytest.raises(UnknownName, match="head"):
        prune(step, student, work)


def test_a_layer_of_which_nothing_is_left_is_named(pruning: Make) -> None:
    step, student, work = pruning(
        "magnitude", watch=(watch := Fatal()), sparsity=0.999, fit=without_steps(SHORT)
    )
    prune(step, student, work)
    assert any("nothing is left of 6.weight" in line for line in watch.lines)


@pytest.mark.parametrize("at", [2, 7, 9, 17])
def test_a_run_that_is_killed_goes_on_to_the_same_weights(pruning: Make, at: int) -> None:
    """Eighteen steps: six before the first masks, two rounds of six."""
    how = {"sparsity": 0.6, "penalty": 1e-4, "rounds": 2}
    whole = prune(*pruning("l1", folder="whole", **how)).module
    with pytest.raises(Killed):
        prune(*pruning("l1", watch=Fatal(at), folder="killed", **how))
    again = Fatal()
    assert same(prune(*pruning("l1", watch=again, folder="killed", **how)).module, whole)
    assert again.count <= 18 - at + 1


def test_a_damaged_round_is_refused_and_named(pruning: Make) -> None:
    step, student, work = pruning("magnitude", sparsity=0.5)
    prune(step, student, work)
    path = work.folder / "round-1.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"round-1\.safetensors.*remove that file"):
        prune(step, student, work)


def test_the_checkpoint_has_the_zeros_the_card_counts_them_and_the_logits_are_the_same(
    make_recipe: Callable[..., Recipe], work: Work
) -> None:
    step = PruneStep("prune", "prune", "magnitude", replace(SHORT, save_every_s=60), sparsity=0.8)
    work = replace(work, recipe=make_recipe(step))
    (done,) = chain.run(work.recipe, work.folder, work.watch, work.recipe.steps)
    stored = checkpoint.read(done.path)
    assert stored.card is not None
    names = [name for name, _ in done.student.module.named_parameters()]
    zero = sum(int((stored.tensors[name] == 0).sum()) for name in names)
    whole = sum(stored.tensors[name].size for name in names)
    assert stored.card.metrics["sparsity"] == pytest.approx(zero / whole)
    assert stored.card.history[-1].parameters == whole - zero
    assert zero / whole > 0.6
    x = torch.randn(2, 3, 24, 24)
    with torch.inference_mode():
        again = load_network(str(done.path)).module(x)
        assert torch.equal(again, done.student.module(x))


def test_what_was_pruned_stays_zero_in_the_steps_that_follow(
    make_recipe: Callable[..., Recipe], work: Work
) -> None:
    fit = replace(SHORT, save_every_s=60)
    recipe = make_recipe(
        PruneStep("prune", "prune", "magnitude", fit, sparsity=0.5),
        TrainStep("train", "train", fit),
        PruneStep("prune", "again", "n:m", fit, keep=("classifier.1",)),
    )
    done = chain.run(recipe, work.folder, work.watch, recipe.steps)
    masks = [zeros(each.student.module) for each in done]
    weights = [each.student.module.state_dict() for each in done]
    assert masks[0].keys() == masks[1].keys() <= masks[2].keys()
    for name, stays in masks[0].items():
        assert torch.equal(stays, masks[1][name])
        assert not masks[2][name][~stays].any()
        assert stays.any() != torch.equal(weights[0][name], weights[1][name])


def test_zeros_that_nobody_pruned_are_not_held() -> None:
    module = torch.nn.Linear(2, 2)
    torch.nn.init.zeros_(module.weight)
    assert not pruned_before(Student(module))
