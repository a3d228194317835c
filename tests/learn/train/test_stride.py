"""The faster gradient is the same gradient."""

import pytest
import torch
from torch import nn

from edgekit.learn.train.stride import fast_strides
from edgekit.plugins import architecture


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "size"), [(3, 2, (9, 12)), (5, 2, (8, 7)), (3, 3, (10, 11))]
)
def test_gradients_are_those_of_autograd(
    kernel: int, stride: int, size: tuple[int, int], bias: bool
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 6, kernel, stride, kernel // 2, groups=6, bias=bias).double()
    x = torch.randn(2, 6, *size, dtype=torch.float64, requires_grad=True)
    wanted = conv(x)
    grad = torch.randn_like(wanted)
    inputs = (x, *conv.parameters())
    slow = torch.autograd.grad(wanted, inputs, grad)
    with fast_strides(conv):
        found = conv(x)
        fast = torch.autograd.grad(found, inputs, grad)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(fast, slow)


def test_a_whole_network_learns_the_same() -> None:
    torch.manual_seed(0)
    arguments = {"num_classes": 4, "width_mult": 0.25, "stem_stride": 1, "dropout": 0.0}
    module = architecture("mobilenet_v2")(**arguments).double()
    x = torch.randn(3, 3, 33, 40, dtype=torch.float64)
    gradients = []
    for fast in (False, True):
        module.zero_grad()
        if fast:
            with fast_strides(module):
                module(x).square().sum().backward()
        else:
            module(x).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in module.parameters()])
    torch.testing.assert_close(gradients[1], gradients[0])


def test_the_network_is_as_before_afterwards() -> None:
    module = architecture("mobilenet_v2")(num_classes=4, width_mult=0.25)
    names = list(module.state_dict())
    with pytest.raises(KeyboardInterrupt), fast_strides(module):
        raise KeyboardInterrupt
    assert list(module.state_dict()) == names
    assert all("forward" not in vars(part) for part in module.modules())


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 8, 3, 2, 1),
        nn.Conv2d(4, 8, 3, 2, 1, groups=4),
        nn.Conv2d(4, 4, 3, 1, 1, groups=4),
        nn.Conv2d(4, 4, 3, 2, 0, groups=4),
        nn.Conv2d(4, 4, 2, 2, 1, groups=4),
        nn.Conv2d(4, 4, 3, 2, 1, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, 2, 1, groups=4, padding_mode="reflect"),
    ],
)
def test_other_convolutions_are_left_alone(conv: nn.Conv2d) -> None:
    with fast_strides(conv):
        assert "forward" not in vars(conv)


def test_mixed_precision_gives_bfloat16() -> None:
    conv = nn.Conv2d(4, 4, 3, 2, 1, groups=4)
    with fast_strides(conv), torch.autocast("cpu", torch.bfloat16):
        out = conv(torch.ones(1, 4, 8, 8))
        assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert conv.weight.grad is not None
    assert conv.weight.grad.dtype == torch.float32
