import copy

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.export import ExportedProgram

from edgekit.errors import CheckFailed, UnknownName
from edgekit.lower.canonical import canonical
from edgekit.lower.integer import CONVOLUTIONS, get_constant
from edgekit.lower.pairs import layer_name, weights_of
from edgekit.lower.quantise import Ptq, quantise
from edgekit.lower.sensitivity import Sensitivity, keep_within, sensitivities, top1

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


def test_a_budget_is_kept_with_as_few_layers_as_powers_of_two(
    plain: ExportedProgram,
) -> None:
    layers = [Sensitivity(name, n) for n, name in enumerate("abcdefgh")]
    tried: list[tuple[str, ...]] = []

    def quantised(kept: tuple[str, ...]) -> ExportedProgram:
        tried.append(kept)
        return plain

    def drop(_: ExportedProgram) -> float:
        return 3.0 - len(tried[-1])

    said: list[str] = []
    _, kept = keep_within(1.0, layers, quantised, drop, said.append)
    assert kept == ("a", "b")
    assert tried == [(), ("a",), ("a", "b")]
    assert said[-1] == "2 layers in float: top-1 falls by 1.00 points"
    with pytest.raises(CheckFailed, match="int8 loses -1.00 points of top-1 at best"):
        keep_within(-2.0, layers, quantised, drop, said.append)


def test_top1_counts_what_is_right(plain: ExportedProgram, tensors: list[Tensor]) -> None:
    images = [tensor.numpy() for tensor in tensors[:5]]
    module = plain.module(check_guards=False)
    right = [int(module(tensor).argmax()) for tensor in tensors[:5]]
    assert top1(plain, images, right) == 100
    assert top1(plain, images, [*right[:4], (right[4] + 1) % 10]) == pytest.approx(80)
    assert top1(plain, images, np.full(5, 99).tolist()) == 0
