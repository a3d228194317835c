import copy

import pytest
import torch
from torch import Tensor, nn

from edgekit.errors import SpecError
from edgekit.lower import export
from edgekit.lower.int8.quantise import quantise
from edgekit.lower.network import CameraInput, Network
from edgekit.spec import ImageSpec, TensorSpec

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

MIXED = [
    "normalise (conv)",
    "network.stem.0 (conv)",
    "network.expand.0 (conv)",
    "network.depthwise.0 (conv)",
    "network.project.0 (conv)",
    "layer 5 (add)",
    "layer 6 (max pool)",
    "network.left.0 (conv)",
    "network.right.0 (conv)",
    "layer 9 (cat)",
    "network.narrow.0 (conv)",
    "layer 11 (mean)",
    "network.classifier.1 (linear)",
]


def test_the_layers_of_a_float_program(program: torch.export.ExportedProgram) -> None:
    graph = program.module(check_guards=False).graph
    assert [layer.name for layer in export.layers(graph)] == MIXED


@pytest.mark.parametrize("scheme", ["affine", "symmetric"])
def test_the_layers_of_the_quantised_program_are_the_same(
    program: torch.export.ExportedProgram, tensors: list[Tensor], scheme: str
) -> None:
    module = program.module(check_guards=False)
    result = quantise(module, tensors[:4], "affine" if scheme == "affine" else "symmetric")
    found = export.layers(result.module(check_guards=False).graph)
    assert [layer.name for layer in found] == MIXED
    for layer in found:
        assert "dequantize" in str(layer.node.target), f"{layer.name} ends before it is requantised"


def test_a_layer_ends_after_its_activation(program: torch.export.ExportedProgram) -> None:
    nodes = {
        layer.name: layer.node for layer in export.layers(program.module(check_guards=False).graph)
    }
    assert nodes["network.stem.0 (conv)"].target in export.ACTIVATIONS
    assert nodes["network.project.0 (conv)"].target not in export.ACTIVATIONS


def test_the_exported_program_is_the_eager_one(
    program: torch.export.ExportedProgram, eager: CameraInput, tensors: list[Tensor]
) -> None:
    module = program.module(check_guards=False)
    with torch.inference_mode():
        for pixels in tensors[:4]:
            torch.testing.assert_close(module(pixels), eager(pixels), rtol=1e-5, atol=1e-5)


def test_exporting_changes_nothing(mixed: Network) -> None:
    before = copy.deepcopy(mixed.module.state_dict())
    export.export(export.with_camera_input(mixed), export.example(mixed))
    after = mixed.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_spec_is_the_seams_promise(mixed: Network) -> None:
    spec = export.model_spec(mixed, "int8", "symmetric")
    assert spec.input == TensorSpec("image", (1, 32, 32, 3), "uint8")
    assert spec.output == TensorSpec("logits", (1, 10), "float32")
    assert (spec.classes, spec.precision, spec.scheme) == (10, "int8", "symmetric")
    pixels = export.example(mixed)
    assert (tuple(pixels.shape), pixels.dtype) == (spec.input.shape, torch.uint8)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


def test_a_network_that_cannot_be_exported_is_one_line() -> None:
    network = Network("branching", Branching(), ImageSpec(8, 8), ("a", "b", "c"), {}, "")
    with pytest.raises(SpecError) as caught:
        export.export(export.with_camera_input(network), export.example(network))
    assert "cannot export" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
