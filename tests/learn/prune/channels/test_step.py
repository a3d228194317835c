"""The step: rank, remove, train on; stored, and built again from the card."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from edgekit import checkpoint
from edgekit.cost.layers import cost
from edgekit.errors import CheckpointError, SpecError
from edgekit.learn import record
from edgekit.learn.prune.channels import step as steps
from edgekit.learn.prune.channels.criteria import scores
from edgekit.learn.prune.channels.step import Tried, prune_channels
from edgekit.learn.prune.channels.target import flow_of
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.recipe.recipe import Recipe
from edgekit.learn.recipe.steps import ModelChoice, PruneStep
from edgekit.learn.work import Student, Work
from edgekit.lower.load import build_network, load_network
from edgekit.lower.sketch import sketch, unfolded_parameters

FIT = Fit(learning_rate=0.01, epochs=1, batch=8)
STEP = PruneStep("prune", "prune", "channels", FIT, macs=0.5, round_to=1)


@pytest.fixture
def student(work: Work) -> Student:
    torch.manual_seed(0)
    arguments = {**work.recipe.head.model.arguments, "num_classes": 3}
    return Student(build_network("mobilenet_v2", arguments))


def test_to_a_share_of_the_parameters(student: Student, work: Work) -> None:
    step = dataclasses.replace(STEP, macs=0.0, parameters=0.6)
    whole = sum(layer.parameters for layer in cost(student.module, work.image).layers)
    small = prune_channels(step, student, work)
    left = sum(layer.parameters for layer in cost(small.module, work.image).layers) / whole
    assert left == pytest.approx(0.6, abs=0.03)
    assert small.metrics["parameters_left"] == pytest.approx(left)
    with pytest.raises(SpecError, match=r"1% of the parameters cannot be reached"):
        prune_channels(dataclasses.replace(step, parameters=0.01, least=0.5), student, work)


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_pruned_student_is_stored_and_read_again(
    rounds: int, student: Student, work: Work, tmp_path: Path
) -> None:
    whole = cost(student.module, work.image)
    small = prune_channels(dataclasses.replace(STEP, rounds=rounds), student, work)
    found = cost(small.module, work.image)
    assert found.macs / whole.macs == pytest.approx(0.5, abs=0.03)
    assert small.metrics["macs_left"] == pytest.approx(found.macs / whole.macs)
    path = tmp_path / "small.safetensors"
    record.write(path, small, STEP, work)
    fresh = build_network("mobilenet_v2", {**work.recipe.head.model.arguments, "num_classes": 3})
    again = record.load(path, fresh)
    noise = torch.randn(2, 3, 24, 24)
    with torch.inference_mode():
        assert torch.allclose(again.module(noise), small.module(noise), atol=1e-5)
    assert (again.widths, again.metrics["macs_left"]) == (small.widths, small.metrics["macs_left"])
    network = load_network(str(path))
    assert cost(network.module, work.image).macs == found.macs
    looked_at = sketch(str(path))
    assert unfolded_parameters(looked_at) == found.parameters


def test_an_interrupted_step_ends_with_the_same_network(student: Student, work: Work) -> None:
    two = dataclasses.replace(STEP, rounds=2, criterion="taylor")
    start = {name: value.clone() for name, value in student.module.state_dict().items()}
    first = prune_channels(two, student, work)
    (work.folder / "round-2.state.pt").unlink()  # as if killed in round 2
    torch.manual_seed(5)
    again = Student(
        build_network("mobilenet_v2", {**work.recipe.head.model.arguments, "num_classes": 3})
    )
    again.module.load_state_dict(start)
    second = prune_channels(two, again, work)
    for name, value in first.module.state_dict().items():
        assert torch.equal(value, second.module.state_dict()[name]), name


def test_a_card_with_widths_of_another_network_is_refused(
    student: Student, work: Work, tmp_path: Path
) -> None:
    path = tmp_path / "small.safetensors"
    record.write(path, prune_channels(STEP, student, work), STEP, work)
    stored = checkpoint.read(path)
    assert stored.card is not None
    wrong = {**stored.card.widths, "features.0.0": {"out_channels": 4096}}
    checkpoint.write(path, stored.tensors, dataclasses.replace(stored.card, widths=wrong))
    with pytest.raises(CheckpointError, match=r"'features\.0\.0', which is built with"):
        load_network(str(path))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"macs": 0.01}, "1% of the MACs cannot be reached"),
        ({"keep": ("*",)}, "finds no channels to prune"),
        ({"round_to": 4096}, "lower round_to"),
    ],
)
def test_targets_that_cannot_be_reached(
    changed: dict[str, object], said: str, student: Student, work: Work
) -> None:
    with pytest.raises(SpecError, match=said):
        prune_channels(dataclasses.replace(STEP, **changed), student, work)  # type: ignore[arg-type]


@pytest.mark.parametrize("criterion", ["l1", "batch_norm", "taylor"])
def test_criteria_find_the_channel_that_does_nothing(
    criterion: str, student: Student, work: Work
) -> None:
    module = student.module
    for layer in ("features.2.conv.0.0", "features.2.conv.1.0"):
        weight = module.get_submodule(layer).get_parameter("weight")
        nn.init.zeros_(weight.data[3])
    for layer in ("features.2.conv.0.1", "features.2.conv.1.1"):
        norm = module.get_submodule(layer)
        nn.init.zeros_(norm.get_parameter("weight").data[3:4])
    flow = flow_of(module, work.image)
    step = dataclasses.replace(STEP, criterion=criterion)  # type: ignore[arg-type]
    found = scores(module, flow, step, work)
    roots = flow.roots(flow.outs["features.2.conv.0.0"])
    assert min(roots, key=found.__getitem__) == roots[3]
    assert found[roots[3]] < 1e-6
    assert all(found[root] > 1e-6 for root in set(roots) - {roots[3]}) or criterion == "taylor"


def test_batch_norm_has_nothing_to_say_of_a_network_without(work: Work) -> None:
    module = build_network("squeezenet1_1", {"num_classes": 3})
    flow = flow_of(module, work.image)
    with pytest.raises(SpecError, match="has no batch norm; say criterion = 'l1'"):
        scores(module, flow, dataclasses.replace(STEP, criterion="batch_norm"), work)


def test_a_measured_target_is_searched_written_down_and_not_measured_again(
    student: Student, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that goes by parameters: what a real one says, `test_latency.py` tests."""
    measured: list[float] = []

    class Session:
        def __init__(self, module: nn.Module):
            self.ms = 1.0 + cost(module, work.image).macs / 1e6

        def close(self) -> None:
            measured.append(self.ms)

    monkeypatch.setattr(steps, "lower", lambda module, *_: Session(module))
    monkeypatch.setattr(steps, "time_beside", lambda sessions, _: [s.ms for s in sessions])
    step = dataclasses.replace(STEP, macs=0.0, latency=0.8)
    small = prune_channels(step, student, work)
    before, ms = small.metrics["latency_before_ms"], small.metrics["latency_ms"]
    assert ms / before == pytest.approx(0.8, abs=0.08)
    assert measured
    measured.clear()
    tried = [Tried(**row) for row in json.loads((work.folder / "latency-1.json").read_bytes())]
    assert any(each.ms == ms for each in tried)
    torch.manual_seed(0)
    arguments = {**work.recipe.head.model.arguments, "num_classes": 3}
    again = prune_channels(step, Student(build_network("mobilenet_v2", arguments)), work)
    assert not measured
    assert (again.widths, again.metrics) == (small.widths, small.metrics)
    (work.folder / "latency-1.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"latency-1\.json.*damaged.*remove it"):
        prune_channels(step, Student(build_network("mobilenet_v2", arguments)), work)


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "cifar_resnet20"])
def test_other_families_are_trained_on(
    name: str, work: Work, make_recipe: Callable[..., Recipe]
) -> None:
    recipe = make_recipe(STEP)
    head = dataclasses.replace(recipe.head, model=ModelChoice(name, {}))
    theirs = dataclasses.replace(work, recipe=dataclasses.replace(recipe, head=head))
    module = build_network(name, {"num_classes": 3})
    small = prune_channels(STEP, Student(module), theirs)
    assert small.widths
    assert theirs.watch.lines[0].startswith("round 1 of 1")  # type: ignore[attr-defined]
