"""The law of training for int8: the build has the integers that training ended with."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from edgekit.learn.qat.layer import Layer
from edgekit.learn.qat.ranges import read
from edgekit.lower.forms.integer import CONVOLUTIONS, get_constant
from edgekit.lower.int8.pairs import weights_of
from edgekit.lower.int8.ranges import read_ranges, scheme_of
from tests.learn.qat.conftest import Case, build

CASES = [
    pytest.param("mobilenet_v2", {}, id="mobilenet_v2"),
    pytest.param("mobilenet_v3_small", {}, id="mobilenet_v3_small", marks=pytest.mark.slow),
    pytest.param("shufflenet_v2_x0_5", {}, id="shufflenet_v2", marks=pytest.mark.slow),
    pytest.param("cifar_resnet20", {}, id="resnet", marks=pytest.mark.slow),
    pytest.param("mobilenet_v2", {"folded": True}, id="folded", marks=pytest.mark.slow),
    pytest.param("mobilenet_v2", {"scheme": "symmetric"}, id="symmetric", marks=pytest.mark.slow),
    pytest.param(
        "mobilenet_v3_small", {"scheme": "symmetric"}, id="swish-symmetric", marks=pytest.mark.slow
    ),
    pytest.param(
        "mobilenet_v2",
        {"keep": ("features.0.0", "features.3.*")},
        id="keep",
        marks=pytest.mark.slow,
    ),
]


def answers(program: ExportedProgram, images: list[Tensor]) -> Tensor:
    module = program.module(check_guards=False)
    with torch.inference_mode():
        return torch.cat([module(pixels) for pixels in images])


@pytest.mark.parametrize(("name", "how"), CASES)
def test_the_build_has_the_integers_of_training(
    trained: Callable[..., Case], name: str, how: dict[str, object]
) -> None:
    case = trained(name, **how)
    program = build(case)
    with torch.inference_mode():
        learned = case.learns.module(case.planes)
    assert torch.equal(learned, answers(program, case.images))
    assert read_ranges(program.module(check_guards=False).graph) == case.student.ranges
    assert scheme_of(case.student.ranges) == case.step.scheme
    _same_weights(case.learns.module, program)
    with torch.inference_mode():
        changed = case.original(case.planes) - case.student.module(case.planes)
    assert changed.abs().max() > 1e-3  # it has learned


def _same_weights(learned: nn.Module, program: ExportedProgram) -> None:
    """Weights and biases, number by number; the layers are in one order."""
    module = program.module(check_guards=False)
    layers = [n for n in module.graph.nodes if n.target in CONVOLUTIONS]
    ours = [
        learned.get_submodule(str(node.target))
        for node in learned.graph.nodes  # type: ignore[union-attr]
        if node.op == "call_module" and isinstance(learned.get_submodule(node.target), Layer)
    ]
    assert len(ours) == len(layers) > 10
    for layer, node in zip(ours, layers, strict=True):
        assert isinstance(layer, Layer)
        pair = weights_of(node)
        weight, bias = layer.folded()
        if pair is not None:
            weight, bias = layer.rounded(weight, bias)
        held = pair[0].args[0] if pair else node.args[1]
        assert torch.allclose(weight, get_constant(module, held), rtol=1e-6, atol=0)
        assert bias is not None
        assert torch.equal(bias, get_constant(module, node.args[2]))


def test_evening_out_and_batch_norm_leave_the_float_network_as_it_was(
    trained: Callable[..., Case],
) -> None:
    case = trained("mobilenet_v2", steps=0)
    with torch.inference_mode():
        before, after = case.original(case.planes), case.student.module(case.planes)
    assert torch.allclose(before, after, atol=1e-4 * float(before.abs().max()))
    weights = dict(case.original.named_parameters())
    assert any(
        not torch.equal(value, weights[name]) for name, value in case.begun.base.named_parameters()
    )
    assert case.learns.places.present() == read(case.learns.module)


@pytest.mark.slow
def test_a_pruned_network_is_trained_as_any_other(
    trained: Callable[..., Case], original: Callable[[str], nn.Module]
) -> None:
    module = original("mobilenet_v2")
    conv, norm, after, norm2, last = (
        cast(Any, module.get_submodule(f"features.2.conv.{n}"))
        for n in ("0.0", "0.1", "1.0", "1.1", "2")
    )
    kept = conv.out_channels - 3
    with torch.no_grad():
        for part in (conv, norm, after, norm2):
            for kind in ("weight", "bias", "running_mean", "running_var"):
                value = getattr(part, kind, None)
                if isinstance(value, nn.Parameter):
                    setattr(part, kind, nn.Parameter(value[:kept].clone()))
                elif value is not None:
                    setattr(part, kind, value[:kept].clone())
        last.weight = nn.Parameter(last.weight[:, :kept].clone())
    conv.out_channels = after.in_channels = after.out_channels = after.groups = kept
    norm.num_features = norm2.num_features = last.in_channels = kept
    case = trained("mobilenet_v2", module=module)
    assert case.student.module.get_submodule("features.2.conv.0.0").out_channels == kept
    with torch.inference_mode():
        learned = case.learns.module(case.planes)
    assert torch.equal(learned, answers(build(case), case.images))
