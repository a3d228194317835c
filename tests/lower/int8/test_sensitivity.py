import copy
import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.export import ExportedProgram

from edgekit.errors import CheckFailed, InputError, UnknownName
from edgekit.lower.forms.canonical import canonical
from edgekit.lower.forms.integer import CONVOLUTIONS, get_constant
from edgekit.lower.int8.pairs import layer_name, weights_of
from edgekit.lower.int8.quantise import Ptq, quantise
from edgekit.lower.int8.sensitivity import Budget, keep_within, read_budget, sensitivities, top1
from edgekit.lower.network import Network

# Of torch's own, when an exported module is copied.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")


@pytest.fixture(scope="module")
def plain(program: ExportedProgram, tensors: list[Tensor]) -> ExportedProgram:
    return canonical(program, tensors[0])


def in_float(program: ExportedProgram) -> set[str]:
    graph = program.module(check_guards=False).graph
    layers = [n for n in graph.nodes if n.target in CONVOLUTIONS]
    return {layer_name(n) for n in layers if weights_of(n) is None}


def test_a_layer_with_few_steps_is_the_most_sensitive(
    plain: ExportedProgram, tensors: list[Tensor]
) -> None:
    wrong = quantise(plain.module(check_guards=False), tensors, "affine").module(check_guards=False)
    (layer,) = (n for n in wrong.graph.nodes if "narrow" in str(n.target) and "weight" in n.name)
    (quantiser,) = layer.users
    with torch.no_grad():
        get_constant(wrong, quantiser.args[1]).mul_(60)
    found = sensitivities(torch.export.export(wrong, (tensors[0],)), tensors)
    assert len(found) == 8
    assert found[0].layer == "narrow.0"
    assert found[0].snr_db < found[1].snr_db - 6
    assert found == sorted(found, key=lambda each: each.snr_db)


@pytest.mark.parametrize(
    ("patterns", "kept"),
    [
        ((), set()),
        (("narrow.0",), {"narrow.0"}),
        (("left.*", "classifier.1"), {"left.0", "classifier.1"}),
    ],
)
def test_layers_are_kept_in_float(
    plain: ExportedProgram, tensors: list[Tensor], patterns: tuple[str, ...], kept: set[str]
) -> None:
    module = copy.deepcopy(plain.module(check_guards=False))
    assert in_float(quantise(module, tensors[:4], "affine", Ptq(keep_float=patterns))) == kept


def test_a_layer_that_is_not_there(plain: ExportedProgram, tensors: list[Tensor]) -> None:
    module = copy.deepcopy(plain.module(check_guards=False))
    with pytest.raises(UnknownName, match="no layer 'narow.0' .did you mean 'narrow.0'"):
        quantise(module, tensors[:4], "affine", Ptq(keep_float=("narow.0",)))


@pytest.fixture
def budget(plain: ExportedProgram, tensors: list[Tensor]) -> Budget:
    """Images that the float network classifies right."""
    module = plain.module(check_guards=False)
    inputs = tuple(tensor.numpy() for tensor in tensors[:12])
    return Budget(0.0, inputs, tuple(int(module(tensor).argmax()) for tensor in tensors[:12]))


def test_top1_counts_what_is_right(plain: ExportedProgram, budget: Budget) -> None:
    first, *rest = budget.classes
    assert top1(plain, budget) == 100
    wrong = dataclasses.replace(budget, classes=((first + 1) % 10, *rest))
    assert top1(plain, wrong) == pytest.approx(100 * 11 / 12)


def coarse(program: ExportedProgram, layer: str, tensor: Tensor) -> ExportedProgram:
    """A layer's weights get a hundredth of their steps, unless it is in float."""
    module = program.module(check_guards=False)
    for node in [n for n in module.graph.nodes if n.target in CONVOLUTIONS]:
        pair = weights_of(node)
        if layer_name(node) == layer and pair is not None:
            with torch.no_grad():
                get_constant(module, pair[0].args[1]).mul_(100)
    return torch.export.export(module, (tensor,))


@pytest.mark.parametrize("damaged", ["narrow.0", "expand.0"])
def test_a_budget_keeps_the_layer_that_costs_in_float(
    plain: ExportedProgram, tensors: list[Tensor], budget: Budget, damaged: str
) -> None:
    tried: list[tuple[str, ...]] = []

    def quantised(kept: tuple[str, ...]) -> ExportedProgram:
        tried.append(kept)
        module = copy.deepcopy(plain.module(check_guards=False))
        result = quantise(module, tensors, "affine", Ptq(keep_float=kept))
        return coarse(result, damaged, tensors[0])

    said: list[str] = []
    some = dataclasses.replace(budget, points=20.0)
    program, kept = keep_within(some, plain, quantised, tensors, said.append)
    assert kept == (damaged,)
    assert in_float(program) == {damaged}
    assert tried == [(), (damaged,)]
    assert said[-1].startswith("1 layers in float: top-1 falls by")


def test_a_budget_that_cannot_be_kept(
    plain: ExportedProgram, tensors: list[Tensor], budget: Budget
) -> None:
    tried: list[tuple[str, ...]] = []
    result = quantise(plain.module(check_guards=False), tensors, "affine")
    wrong = dataclasses.replace(budget, classes=tuple((c + 1) % 10 for c in budget.classes))

    def quantised(kept: tuple[str, ...]) -> ExportedProgram:
        tried.append(kept)
        return result

    right = dataclasses.replace(wrong, points=-1.0)  # below what any program reaches
    with pytest.raises(CheckFailed, match="points of top-1 at best, with half of the layers"):
        keep_within(right, plain, quantised, tensors, lambda line: None)
    assert [len(kept) for kept in tried] == [0, 1, 2, 4]


def test_images_without_labels_are_refused(tmp_path: Path, mixed: Network) -> None:
    cv2.imwrite(str(tmp_path / "photo.png"), np.full((40, 40, 3), 90, np.uint8))
    with pytest.raises(InputError, match="nobody says what its images show"):
        read_budget(1.0, tmp_path, mixed)
    with pytest.raises(InputError, match="--max-drop -1: give percent points"):
        read_budget(-1.0, tmp_path, mixed)
    (tmp_path / "labels.txt").write_text("photo.png 3\n")
    found = read_budget(1.0, tmp_path, mixed)
    assert found.classes == (3,)
    assert found.inputs[0].shape == (1, 32, 32, 3)
