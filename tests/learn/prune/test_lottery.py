"""The lottery ticket, and its controls."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgekit.errors import SpecError
from edgekit.learn import chain
from edgekit.learn.prune import start as starts
from edgekit.learn.prune.masks import prunable
from edgekit.learn.prune.step import prune
from edgekit.learn.recipe.read import read
from edgekit.learn.recipe.steps import PruneStep
from edgekit.learn.work import Student, Work
from tests.learn.prune.conftest import SHORT, Fatal, Killed, Make, gone, same

HOW = {"sparsity": 0.7, "rounds": 2, "rewind_epoch": 1}
"""Twelve steps: six dense, then three in each of two rounds."""


def test_each_round_takes_its_share_and_begins_with_the_rewound_weights(pruning: Make) -> None:
    step, student, work = pruning("lottery", **HOW)
    module = prune(step, student, work).module
    names = list(prunable(module))
    count = sum(module.get_parameter(name).numel() for name in names)
    assert gone(module, names).sum() == round(0.7 * count)
    rewound = starts.read(work.folder / "rewind.safetensors").weights
    first, second = (starts.read(work.folder / f"round-{n}.safetensors") for n in (1, 2))
    for start in (first, second):
        assert all(torch.equal(start.weights[name], rewound[name]) for name in rewound)
    left = sum(int(first.masks[name].sum()) for name in names)
    assert left == count - round((1 - 0.3**0.5) * count)
    assert all((first.masks[name] | ~second.masks[name]).all() for name in names)  # nested
    assert not any(torch.equal(rewound[n], student.module.get_parameter(n)) for n in names)


def test_rewound_to_the_beginning_it_is_the_first_paper_s(pruning: Make) -> None:
    step, student, work = pruning("lottery", sparsity=0.5, fit=replace(SHORT, epochs=1))
    prune(step, student, work)
    rewound = starts.read(work.folder / "rewind.safetensors").weights
    assert all(torch.equal(v, rewound[n]) for n, v in student.module.state_dict().items())


def test_a_round_trains_from_the_epoch_that_it_is_rewound_to(pruning: Make) -> None:
    step, student, work = pruning("lottery", watch=(watch := Fatal()), **HOW)
    prune(step, student, work)
    assert watch.count == 12


def test_the_rewound_weights_are_those_of_the_run_and_not_of_its_average(pruning: Make) -> None:
    """Without an average the dense run comes to other weights, but by the same steps."""
    found = []
    for decay in (0.0, 0.9):
        fit = replace(SHORT, average_decay=decay)
        step, student, work = pruning("lottery", folder=str(decay), fit=fit, **HOW)
        prune(step, student, work)
        found.append(starts.read(work.folder / "rewind.safetensors").weights)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("at", [1, 4, 5, 7, 12])
def test_a_run_that_is_killed_goes_on_to_the_same_weights(pruning: Make, at: int) -> None:
    whole = prune(*pruning("lottery", folder="whole", **HOW)).module
    with pytest.raises(Killed):
        prune(*pruning("lottery", watch=Fatal(at), folder="killed", **HOW))
    again = Fatal()
    assert same(prune(*pruning("lottery", watch=again, folder="killed", **HOW)).module, whole)
    assert again.count <= 12 - at + 1


def masks_and_zeros(step: PruneStep, student: Student, work: Work) -> tuple[list[int], list[int]]:
    """Of each layer, zeros of the round's masks and of the network that was trained."""
    module = prune(step, student, work).module
    masks = starts.read(work.folder / "round-2.safetensors").masks
    zeros = [(module.get_parameter(name) == 0) for name in masks]
    same_places = [int((z == ~m).all()) for z, m in zip(zeros, masks.values(), strict=True)]
    return [
        int((~m).sum() - z.sum()) for m, z in zip(masks.values(), zeros, strict=True)
    ], same_places


def test_reinitialised_it_has_the_masks_and_other_weights_and_all_epochs(pruning: Make) -> None:
    prune(*(ticket := pruning("lottery", folder="ticket", **HOW)))
    step, student, work = pruning(
        "lottery", watch=(watch := Fatal()), folder="control", reinitialise=True, **HOW
    )
    differ, same_places = masks_and_zeros(step, student, work)
    assert not any(differ)
    assert all(same_places)
    assert watch.count == 6 + 3 + 6  # dense, one round, and the control from epoch 0
    one, other = (
        starts.read(folder / "round-2.safetensors") for folder in (ticket[2].folder, work.folder)
    )
    assert all(torch.equal(one.masks[name], other.masks[name]) for name in one.masks)


def test_shuffled_it_has_as_many_weights_in_each_layer_elsewhere(pruning: Make) -> None:
    differ, same_places = masks_and_zeros(*pruning("lottery", shuffle=True, **HOW))
    assert not any(differ)
    assert not all(same_places)


CHILD = """
import os, signal, sys
from pathlib import Path
import torch
from edgekit.errors import SpecError
from edgekit.learn import chain
from edgekit.learn.recipe.read import read

torch.set_num_threads(1)

class Watch:
    count = 0
    def step(self, *told):
        self.count += 1
        if self.count == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
    def line(self, text):
        pass

found = read(Path(sys.argv[1]))
chain.run(found, Path(sys.argv[2]), Watch(), found.steps)
"""
RECIPE = """
name = "small"
seed = 1
trained_on = "made-up colours"
license = "Apache-2.0"
data = {{path = '{folder}'}}
model = {{architecture = "tests.learn.prune.conftest:tiny"}}
image = {{height = 24, width = 24, crop_fraction = 1.0, interpolation = "area"}}
[[steps]]
kind = "prune"
method = "lottery"
sparsity = 0.7
rounds = 2
rewind_epoch = 1
fit = {{learning_rate = 0.01, epochs = 2, batch = 8, save_every_s = 0}}
"""


@pytest.mark.slow
def test_killed_by_a_signal_it_leaves_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(folder=folder))

    command = [sys.executable, "-c", CHILD, str(recipe), str(tmp_path / "killed"), "8"]
    assert subprocess.run(command, timeout=300).returncode == -signal.SIGKILL
    found = read(recipe)
    assert (tmp_path / "killed" / "1-prune" / "round-1.state.pt").exists()
    for out in ("whole", "killed"):
        chain.run(found, tmp_path / out, Fatal(), found.steps)
    stored = [tmp_path / out / "1-prune" / "small.safetensors" for out in ("whole", "killed")]
    assert stored[0].read_bytes() == stored[1].read_bytes()


def test_a_rewound_step_of_another_method_is_refused(tmp_path: Path) -> None:
    text = RECIPE.format(folder=tmp_path).replace('"lottery"', '"magnitude"')
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(SpecError, match="are of the method lottery"):
        read(tmp_path / "recipe.toml")
