"""A fault is put into one layer, and must be found there and nowhere before."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from architectures.squeezenet import squeezenet1_1
from edgekit.lower import export
from edgekit.lower.gate import parity, taps
from edgekit.lower.int8.quantise import quantise
from edgekit.lower.network import CameraInput, Network
from edgekit.spec import ImageSpec

LAYERS = ("network.stem.0", "network.depthwise.0", "network.right.0", "network.classifier.1")


@pytest.fixture(scope="module")
def inputs(tensors: list[Tensor]) -> list[np.ndarray]:
    return [tensor.numpy() for tensor in tensors[:4]]


def broken(program: ExportedProgram, layer: str, what: str) -> ExportedProgram:
    """A copy in which one layer's weight or bias was changed after export."""
    module = program.module(check_guards=False)
    owner = module.get_submodule(layer)
    value = getattr(owner, what).detach().clone()
    changed = value.roll(1, 0) if what == "weight" else torch.zeros_like(value)
    setattr(owner, what, nn.Parameter(changed, requires_grad=False))
    sample = torch.full((1, 32, 32, 3), 128, dtype=torch.uint8)
    return torch.export.export(module, (sample,))


@pytest.mark.parametrize("what", ["weight", "bias"])
@pytest.mark.parametrize("layer", LAYERS)
def test_a_fault_in_the_exported_program_is_found_at_its_layer(
    eager: CameraInput,
    program: ExportedProgram,
    inputs: list[np.ndarray],
    layer: str,
    what: str,
) -> None:
    expected = taps.eager_layers(eager, inputs)
    assert (
        taps.first_divergence(taps.layer_snr(expected, taps.weighted_layers(program, inputs)), 90)
        is None
    )
    found = taps.weighted_layers(broken(program, layer, what), inputs)
    divergence = taps.first_divergence(taps.layer_snr(expected, found), 90)
    assert divergence is not None
    assert divergence.layer == layer
    assert divergence.snr_db < 40
    assert divergence.max_abs_error > 0.01


def test_the_taps_of_eager_and_exported_pair_up(
    eager: CameraInput, program: ExportedProgram, inputs: list[np.ndarray]
) -> None:
    one, two = taps.eager_layers(eager, inputs), taps.weighted_layers(program, inputs)
    assert list(one) == list(two)
    assert next(iter(one)) == "normalise"
    assert len(one) == 9
    for name in one:
        assert len(one[name]) == len(inputs)
        np.testing.assert_allclose(one[name], two[name], rtol=1e-4, atol=1e-5)


def test_a_fault_in_the_quantised_program_is_found_at_its_layer(
    program: ExportedProgram, tensors: list[Tensor], inputs: list[np.ndarray]
) -> None:
    expected = taps.graph_layers(program, inputs)
    right = quantise(program.module(check_guards=False), tensors, "affine")
    assert (
        taps.first_divergence(taps.layer_snr(expected, taps.graph_layers(right, inputs)), 15)
        is None
    )
    wrong = broken(program, "network.project.0", "weight")
    result = quantise(wrong.module(check_guards=False), tensors, "affine")
    divergence = taps.first_divergence(
        taps.layer_snr(expected, taps.graph_layers(result, inputs)), 15
    )
    assert divergence is not None
    assert divergence.layer == "network.project.0 (conv)"


def test_observing_changes_no_weight_and_no_answer(
    eager: CameraInput, inputs: list[np.ndarray]
) -> None:
    before = copy.deepcopy(eager.state_dict())
    expected = parity.run_module(eager, inputs)
    taps.eager_layers(eager, inputs)
    np.testing.assert_array_equal(parity.run_module(eager, inputs), expected)
    assert all(torch.equal(before[name], value) for name, value in eager.state_dict().items())
    assert not any(child._forward_hooks for child in eager.modules())


def test_a_value_is_kept_as_it_was_before_an_activation_in_place(
    inputs: list[np.ndarray],
) -> None:
    torch.manual_seed(0)
    module = CameraInput(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)), ImageSpec(32, 32)
    )
    assert taps.eager_layers(module, inputs)["network.0"].min() < 0


@pytest.mark.parametrize("form", ["float", "int8"])
def test_the_tapped_program_gives_the_logits_and_every_layer(
    program: ExportedProgram, tensors: list[Tensor], inputs: list[np.ndarray], form: str
) -> None:
    if form == "int8":
        program = quantise(program.module(check_guards=False), tensors[:8], "symmetric")
    wide, names = taps.tapped(program, tensors[0])
    expected = taps.graph_layers(program, inputs[:1])
    assert names == list(expected)
    module = program.module(check_guards=False)
    with torch.inference_mode():
        found = wide.module(check_guards=False)(tensors[0])
        torch.testing.assert_close(found[0], module(tensors[0]), rtol=0, atol=0)
    assert len(found) == 1 + len(names)
    for name, value in zip(names, found[1:], strict=True):
        np.testing.assert_array_equal(value.numpy(), expected[name])


def test_divergence() -> None:
    one = np.ones((2, 3), np.float32)
    values = {"a": one, "b": one, "c": one}
    assert taps.first_divergence(taps.layer_snr(values, dict(values)), 90) is None
    off = {"c": -one, "b": one + np.float32(0.1), "a": one}
    found = taps.first_divergence(taps.layer_snr(values, off), 30)
    assert found is not None
    assert found.layer == "b"
    assert str(found) == "b: SNR 20.0 dB, max error 0.1"
    later = taps.first_divergence(taps.layer_snr(values, off), 15)
    assert later is not None
    assert later.layer == "c"
    lacking = taps.layer_snr(values, {"a": one})
    assert lacking == [taps.LayerSnr("a", 200.0, 0.0)], "what lacks is passed over"


def test_every_layer_is_compared_in_order() -> None:
    one = np.ones((2, 3), np.float32)
    found = taps.layer_snr({"a": one, "b": one, "c": one}, {"c": one * np.nan, "a": one * 0.9})
    assert [layer.layer for layer in found] == ["a", "c"]
    assert found[0].snr_db == pytest.approx(20.0, abs=1e-4)
    assert found[1] == taps.LayerSnr("c", -200.0, float("inf"))


def test_a_network_whose_layers_repeat_names_each_once(inputs: list[np.ndarray]) -> None:
    torch.manual_seed(0)
    image = ImageSpec(64, 64)
    network = Network("s", squeezenet1_1(5).eval(), image, tuple("abcde"), {}, "")
    program = export.export(export.with_camera_input(network), export.example(network))
    names = [x.name for x in export.layers(program.module(check_guards=False).graph)]
    assert len(names) == len(set(names)) == 27 + 3 + 8 + 1  # convolutions, pools, fires, mean
