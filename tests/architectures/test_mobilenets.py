"""What is particular to MobileNetV1, V3 and V4."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from architectures.mobilenet_v1 import DepthwiseSeparable, mobilenet_v1
from architectures.mobilenet_v2 import mobilenet_v2
from architectures.mobilenet_v3 import SqueezeExcitation, mobilenet_v3_large, mobilenet_v3_small
from architectures.mobilenet_v4 import UniversalInvertedBottleneck, mobilenetv4_conv_small


def kinds(module: nn.Module) -> set[type[nn.Module]]:
    return {type(child) for child in module.modules()}


def test_minimalistic_v3_has_only_what_any_hardware_has() -> None:
    for builder in (mobilenet_v3_large, mobilenet_v3_small):
        plain = builder(minimalistic=True)
        assert not kinds(plain) & {SqueezeExcitation, nn.Hardswish, nn.Hardsigmoid}
        kernels = {m.kernel_size for m in plain.modules() if isinstance(m, nn.Conv2d)}
        assert kernels == {(1, 1), (3, 3)}
        assert kinds(builder()) >= {SqueezeExcitation, nn.Hardswish, nn.Hardsigmoid}


@pytest.mark.parametrize("builder", [mobilenet_v1, mobilenet_v2, mobilenet_v3_small])
@pytest.mark.parametrize("width_mult", [0, -1])
def test_a_width_is_above_0(builder: Callable[..., nn.Module], width_mult: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        builder(width_mult=width_mult)


def test_v3_uses_the_piecewise_formulas() -> None:
    x = torch.linspace(-5, 5, 101)
    relu6 = (x + 3).clamp(0, 6)
    torch.testing.assert_close(nn.Hardsigmoid()(x), relu6 / 6)
    torch.testing.assert_close(nn.Hardswish()(x), x * relu6 / 6)


def test_squeeze_and_excite_only_scales_channels() -> None:
    module = SqueezeExcitation(16)
    x = torch.rand(2, 16, 5, 5) + 0.1
    factor = module(x) / x
    torch.testing.assert_close(factor, factor[:, :, :1, :1].expand_as(factor))
    assert factor.min() >= 0
    assert factor.max() <= 1


def test_v1_costs_eight_to_nine_times_less_than_full_convolutions() -> None:
    block = DepthwiseSeparable(256, 512, 1)
    separable = sum(p.numel() for p in block.parameters() if p.ndim == 4)
    assert 8 < 9 * 256 * 512 / separable < 9


def test_v1_widths_scale_every_layer() -> None:
    state = mobilenet_v1(width_mult=0.25).state_dict()
    assert state["features.0.0.weight"].shape == (8, 3, 3, 3)
    assert state["classifier.1.weight"].shape == (1000, 256)


def test_v4_small_is_built_of_the_published_instances() -> None:
    found = [
        (type(m.dw_start) is not nn.Identity, type(m.dw_mid) is not nn.Identity)
        for m in mobilenetv4_conv_small().modules()
        if isinstance(m, UniversalInvertedBottleneck)
    ]
    extra_dw, inverted, conv_next = (True, True), (False, True), (True, False)
    assert found == [extra_dw, *[inverted] * 4, conv_next, extra_dw, extra_dw, *[inverted] * 4]


def test_each_instance_of_the_universal_bottleneck_strides() -> None:
    x = torch.rand(1, 16, 12, 12)
    for first, middle in ((3, 3), (3, 0), (0, 5)):
        block = UniversalInvertedBottleneck(16, first, middle, 2, 24, 2).eval()
        assert block(x).shape == (1, 24, 6, 6)
    feed_forward = UniversalInvertedBottleneck(16, 0, 0, 2, 16, 1).eval()
    assert feed_forward(x).shape == x.shape
    assert {m.kernel_size for m in feed_forward.modules() if isinstance(m, nn.Conv2d)} == {(1, 1)}
