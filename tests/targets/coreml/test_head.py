"""What is changed of an exported program before coremltools sees it."""

from collections import Counter

import pytest
import torch
import torchao.quantization.pt2e.quantize_pt2e  # registers quantized_decomposed
from torch import Tensor, nn
from torch.export import ExportedProgram

from targets.coreml.head import for_core_ml

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

PIXELS = torch.randint(0, 256, (1, 5, 7, 3), generator=torch.Generator().manual_seed(0)).byte()
PLANES = PIXELS.permute(0, 3, 1, 2).float()


class Camera(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        planes = image.permute(0, 3, 1, 2).float() / 255
        return planes.mean((2, 3))


class ReadsTwice(nn.Module):
    """Also reads the camera's own layout, and its bytes wrap around."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        planes = image.permute(0, 3, 1, 2).float().mean((2, 3))
        return planes, (image + image)[:, 1:, :, 0].float().mean((1, 2))


class SaysTheSameTwice(nn.Module):
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        planes = image.permute(0, 3, 1, 2).float().mean((2, 3))
        return planes, planes


class Shuffles(nn.Module):
    """(1, 6, H, W) in three groups; the camera's planes twice."""

    def forward(self, image: Tensor) -> Tensor:
        planes = image.permute(0, 3, 1, 2).float()
        found: Tensor = torch.ops.aten.channel_shuffle.default(torch.cat((planes, -planes), 1), 3)
        return found


def exported(module: nn.Module) -> ExportedProgram:
    return torch.export.export(module, (PIXELS,))


def kinds(program: ExportedProgram) -> Counter[str]:
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    return Counter(str(node.target).removeprefix("aten.").partition(".")[0] for node in nodes)


@pytest.mark.parametrize("module", [Camera(), ReadsTwice(), SaysTheSameTwice(), Shuffles()])
def test_it_computes_the_same_of_an_images_planes(module: nn.Module) -> None:
    expected = module(PIXELS)
    expected = expected if isinstance(expected, tuple) else (expected,)
    changed = for_core_ml(exported(module), (1, 5, 7, 3), probabilities=False)
    found = changed.module(check_guards=False)(PLANES)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_the_cameras_layout_and_type_are_gone() -> None:
    changed = kinds(for_core_ml(exported(Camera()), (1, 5, 7, 3), probabilities=False))
    assert changed == {"div": 1, "mean": 1}


def test_a_shuffle_is_spelt_as_coremltools_knows_it() -> None:
    changed = kinds(for_core_ml(exported(Shuffles()), (1, 5, 7, 3), probabilities=False))
    assert "channel_shuffle" not in changed


def test_no_two_outputs_are_one_node() -> None:
    changed = for_core_ml(exported(SaysTheSameTwice()), (1, 5, 7, 3), probabilities=False)
    (end,) = (node for node in changed.graph.nodes if node.op == "output")
    assert len(set(end.args[0])) == 2


def test_probabilities_are_a_further_output() -> None:
    changed = for_core_ml(exported(Camera()), (1, 5, 7, 3), probabilities=True)
    logits, probabilities = changed.module(check_guards=False)(PLANES)
    torch.testing.assert_close(probabilities, torch.softmax(logits, -1))


class Quantised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 12).view(4, 3))
        self.register_buffer("scales", torch.full((4,), 0.01))
        self.register_buffer("zeros", torch.zeros(4, dtype=torch.int64))

    def forward(self, image: Tensor) -> Tensor:
        quantized = torch.ops.quantized_decomposed
        rest = (self.scales, self.zeros, 0, -127, 127, torch.int8)
        whole = quantized.quantize_per_channel(self.weight, *rest)
        weight = quantized.dequantize_per_channel(whole, *rest)
        return nn.functional.linear(image.permute(0, 3, 1, 2).float().mean((2, 3)), weight)


def test_weights_are_folded_to_integers() -> None:
    assert torchao is not None
    program = exported(Quantised())
    assert kinds(program)["quantized_decomposed"] == 2
    changed = for_core_ml(program, (1, 5, 7, 3), probabilities=False)
    assert kinds(changed)["quantized_decomposed"] == 1
    stored = {**changed.state_dict, **changed.constants}
    assert any(value.dtype == torch.int8 for value in stored.values())
    torch.testing.assert_close(changed.module(check_guards=False)(PLANES)[0], Quantised()(PIXELS))
