import copy

import pytest
import torch
from torch import Tensor
from torch.export import ExportedProgram

from edgekit.lower.forms.canonical import canonical
from edgekit.lower.forms.integer import CONVOLUTIONS, get_constant
from edgekit.lower.gate import parity
from edgekit.lower.gate.taps import graph_layers
from edgekit.lower.int8.bias import correct_biases
from edgekit.lower.int8.pairs import scale_of, weights_of
from edgekit.lower.int8.quantise import Ptq, quantise

aten = torch.ops.aten


# Of torch's own, when an exported module is copied.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")


@pytest.fixture(scope="module")
def plain(program: ExportedProgram, tensors: list[Tensor]) -> ExportedProgram:
    return canonical(program, tensors[0])


def mean_errors(
    expected: ExportedProgram, found: ExportedProgram, tensors: list[Tensor]
) -> list[float]:
    """Of each layer, the largest mean error of a channel, over its range."""
    inputs = [tensor.numpy() for tensor in tensors]
    before, after = graph_layers(expected, inputs), graph_layers(found, inputs)
    return [
        float(abs((after[name] - value).swapaxes(0, 1).reshape(value.shape[1], -1).mean(1)).max())
        / float(abs(value).max())
        for name, value in before.items()
    ]


def test_mean_errors_go_away_and_biases_stay_integers(
    plain: ExportedProgram, tensors: list[Tensor]
) -> None:
    module = plain.module(check_guards=False)
    off = quantise(copy.deepcopy(module), tensors, "affine")
    on = quantise(module, tensors, "affine", Ptq(correct_bias=True))
    few = tensors[:16]
    last_off = parity.run_module(off.module(check_guards=False), [t.numpy() for t in few])
    last_on = parity.run_module(on.module(check_guards=False), [t.numpy() for t in few])
    wanted = parity.run_module(plain.module(check_guards=False), [t.numpy() for t in few])
    assert abs((last_on - wanted).mean(0)).max() < 0.6 * abs((last_off - wanted).mean(0)).max()
    graph = on.module(check_guards=False)
    for layer in (n for n in graph.graph.nodes if n.target in CONVOLUTIONS):
        pair = weights_of(layer)
        assert pair is not None
        unit = get_constant(graph, pair[0].args[1]).double() * scale_of(layer.args[0])
        steps = get_constant(graph, layer.args[2]).double() / unit
        assert (steps - steps.round()).abs().max() < 0.3


def test_a_bias_that_was_moved_comes_back(plain: ExportedProgram, tensors: list[Tensor]) -> None:
    """A fault that is a bias's: correction finds it, and takes out nearly all of it."""
    module = plain.module(check_guards=False)
    result = quantise(copy.deepcopy(module), tensors, "affine")
    wrong = result.module(check_guards=False)
    layer = [n for n in wrong.graph.nodes if n.target is aten.conv2d.default][3]
    with torch.no_grad():
        get_constant(wrong, layer.args[2]).add_(0.5)
    few = tensors[:16]
    inputs = [t.numpy() for t in few]
    wanted = parity.run_module(plain.module(check_guards=False), inputs)
    before = abs(parity.run_module(wrong, inputs) - wanted).max()
    with torch.inference_mode():
        correct_biases(module, wrong, few)
    after = abs(parity.run_module(wrong, inputs) - wanted).max()
    assert after < before / 2
