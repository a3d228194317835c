from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit import checkpoint
from edgekit.checkpoint import Made, Range
from edgekit.device.golden import run_input
from edgekit.errors import CheckpointError, UnknownName
from edgekit.learn import record
from edgekit.learn.data.source import Data
from edgekit.learn.first import first_network
from edgekit.learn.qat.step import calibration, quantize
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.recipe.recipe import Recipe
from edgekit.learn.recipe.steps import QuantizeStep
from edgekit.learn.train.place import HERE
from edgekit.learn.work import Student, Work
from edgekit.lower import trained, untrained
from edgekit.lower.build import build
from edgekit.lower.int8.quantise import Ptq
from edgekit.lower.int8.ranges import check
from edgekit.lower.load import load_network
from edgekit.lower.plan import Request, make_plan
from edgekit.plugins import loader
from tests.learn.conftest import Silent

FIT = Fit(learning_rate=0.003, epochs=4, batch=8, average_decay=0.9)
STEP = QuantizeStep("quantize", "quantize", FIT)


class Killed(BaseException):
    """What ends a run without a word, as `kill -9` does."""


class Fatal(Silent):
    """A watch that ends the run at its step number `at`, from 1."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.count = at, 0

    def step(self, task: str, done: int, total: int, note: str = "") -> None:
        self.count += 1
        if self.count == self.at:
            raise Killed


@pytest.fixture
def quantizing(
    make_recipe: Callable[..., Recipe], data: Data, tmp_path: Path
) -> Callable[..., tuple[Student, Work]]:
    """Makes an untrained student and what the step works with."""

    def make(folder: str, watch: Silent | None = None) -> tuple[Student, Work]:
        recipe = make_recipe(STEP)
        student = Student(untrained.settle(first_network(recipe, data).eval(), recipe.head.image))
        return student, Work(recipe, data, HERE, watch or Silent(), tmp_path / folder)

    return make


def test_what_was_pruned_stays_zero(quantizing: Callable[..., tuple[Student, Work]]) -> None:
    student, work = quantizing("pruned")
    weight = student.module.get_parameter("features.2.conv.0.0.weight")
    with torch.no_grad():
        weight[::2] = 0
    pruned = Made("prune", "prune", "small", 1, "", None, 1, 1)
    student = replace(student, history=(pruned,))
    short = replace(STEP, fit=replace(FIT, epochs=1))
    found = quantize(short, student, work).module.get_parameter("features.2.conv.0.0.weight")
    assert not found[::2].any()
    assert found[1::2].any()


@pytest.mark.slow
def test_a_run_that_was_killed_ends_with_the_same_integers(
    quantizing: Callable[..., tuple[Student, Work]],
) -> None:
    student, work = quantizing("whole")
    before = {n: v.clone() for n, v in student.module.state_dict().items()}
    whole = quantize(STEP, student, work)
    assert all(torch.equal(v, before[n]) for n, v in student.module.state_dict().items())
    for at in (5, 11):  # ranges still follow; ranges are frozen
        with pytest.raises(Killed):
            quantize(STEP, student, quantizing(f"killed-{at}", Fatal(at))[1])
        again = quantize(STEP, student, quantizing(f"killed-{at}")[1])
        assert again.ranges == whole.ranges
        found = again.module.state_dict()
        assert all(torch.equal(v, found[n]) for n, v in whole.module.state_dict().items())
    assert whole.accuracy == again.accuracy
    assert whole.accuracy is not None


@pytest.fixture
def stored(quantizing: Callable[..., tuple[Student, Work]], tmp_path: Path) -> Path:
    """A checkpoint as the step leaves it, but for an epoch of training."""
    student, work = quantizing("stored")
    path = tmp_path / "small.safetensors"
    short = replace(STEP, fit=replace(FIT, epochs=1, learning_rate=1e-4))
    record.write(path, quantize(short, student, work), short, work)
    return path


def test_a_build_takes_the_ranges_or_says_why_it_does_not(
    stored: Path, quantizing: Callable[..., tuple[Student, Work]]
) -> None:
    network = load_network(str(stored))
    assert network.accuracy is not None
    assert network.accuracy.data.startswith("in int8")
    plan = make_plan(Request("raspberry-pi", precision="int8"))
    assert trained.ranges_of(plan, network) == network.ranges
    assert trained.ranges_of(replace(plan, precision="fp16"), network) is None
    assert trained.notes_of(plan, network) == (trained.FROM_TRAINING,)
    jetson = make_plan(Request("jetson", precision="int8"))
    for other, why in (
        (replace(plan, ptq=Ptq("mse")), "an option asks"),
        (replace(plan, ptq=Ptq(correct_bias=True)), "an option asks"),
        (replace(plan, limited=True), "an option asks"),
        (jetson, "jetson with onnx takes symmetric activations, and it learned with affine ones"),
    ):
        assert trained.ranges_of(other, network) is None
        assert f"anew, because {why}" in trained.notes_of(other, network)[0]
    card = checkpoint.read_card(stored)
    assert card is not None
    assert card.ranges == network.ranges
    for odd in (Range(0.0, 0), Range(float("nan"), 0), Range(0.1, 128)):
        with pytest.raises(CheckpointError, match="the card is damaged"):
            check("features.0.0", odd)
    student, work = quantizing("other")
    with pytest.raises(UnknownName, match="layer"):
        quantize(replace(STEP, keep_float=("features.99",)), student, work)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["litert", "onnx"])
def test_a_runtime_answers_as_training_did(
    stored: Path, tmp_path: Path, data: Data, folder: Path, backend: str
) -> None:
    request = Request(
        "linux", str(stored), backend=backend, precision="int8", calibration=folder / "val"
    )
    made = build(replace(request, out=tmp_path / "int8"), lambda line: None)
    manifest = made.manifest
    assert any("ranges are those of training" in note for note in manifest.notes)
    assert any("same integers on every runtime" in note for note in manifest.notes)
    assert manifest.provenance.calibration_images == 0
    session = loader(backend)(made.path / manifest.model, manifest.session)
    network = load_network(str(stored))
    right = 0
    for pixels, target in zip(
        calibration(data.validation, network.image), data.validation.targets, strict=True
    ):
        right += int(np.argmax(run_input(session, pixels.numpy())["logits"]) == target)
    session.close()
    assert network.accuracy is not None
    assert right / len(data.validation) == pytest.approx(network.accuracy.top1)
    half = build(replace(request, precision="fp16", out=tmp_path / "fp16"), lambda line: None)
    assert half.manifest.precision == "fp16"
