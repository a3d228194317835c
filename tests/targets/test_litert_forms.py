import pytest
import torch
from torch import nn

from targets.litert import forms

aten = torch.ops.aten


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1),
        nn.ConvTranspose2d(6, 4, (5, 3), (3, 2), (2, 1), (2, 0), groups=2, bias=False),
        nn.ConvTranspose2d(6, 4, 3, 2, 2, (0, 1), dilation=(1, 2)),
    ],
)
def test_output_padding_is_cut_out_of_the_whole_output(layer: nn.Module) -> None:
    x = torch.randn(1, 6, 5, 7)
    module = torch.export.export(layer.eval(), (x,)).module(check_guards=False)
    forms.cut_transposed_convolutions(module)
    called = [n for n in module.graph.nodes if n.target is aten.conv_transpose2d.input]
    assert [n.args[4:6] for n in called] == [([0, 0], [0, 0])]
    torch.testing.assert_close(module(x), layer(x))


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1),
        nn.ConvTranspose2d(6, 4, 3, stride=2, output_padding=1),
    ],
)
def test_others_stay(layer: nn.Module) -> None:
    x = torch.randn(1, 6, 5, 7)
    module = torch.export.export(layer.eval(), (x,)).module(check_guards=False)
    forms.cut_transposed_convolutions(module)
    assert all(n.target is not aten.slice.Tensor for n in module.graph.nodes)
