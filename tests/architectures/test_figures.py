"""Parameters and multiply-accumulates of every variant, exactly, and as their papers print them.

MACs are of one image, 224x224 (32x32 for the CIFAR networks), and count what the papers count: each
product of a convolution or linear layer, squeeze-and-excite's included; nothing for batch norm,
which is folded, nor for activations, additions and pooling.
"""

from typing import Any

import pytest
import torch

from edgekit import plugins
from edgekit.cost.layers import cost
from edgekit.spec import ImageSpec

Arguments = dict[str, Any]

# Architecture, arguments, parameters, MACs.
FIGURES: list[tuple[str, Arguments, int, int]] = [
    ("mobilenet_v1", {}, 4_231_976, 568_740_352),
    ("mobilenet_v1", {"width_mult": 0.75}, 2_585_560, 325_400_448),
    ("mobilenet_v1", {"width_mult": 0.5}, 1_331_592, 149_497_088),
    ("mobilenet_v1", {"width_mult": 0.25}, 470_072, 41_030_272),
    ("mobilenet_v2", {}, 3_504_872, 300_774_272),
    ("mobilenet_v2", {"width_mult": 1.4}, 6_108_776, 582_195_824),
    ("mobilenet_v2", {"width_mult": 0.75}, 2_636_424, 209_069_792),
    ("mobilenet_v2", {"width_mult": 0.5}, 1_968_680, 97_131_840),
    ("mobilenet_v2", {"width_mult": 0.35}, 1_677_128, 59_285_808),
    ("mobilenet_v3_large", {}, 5_483_032, 216_589_760),
    ("mobilenet_v3_large", {"minimalistic": True}, 3_924_288, 209_136_704),
    ("mobilenet_v3_small", {}, 2_542_856, 56_510_400),
    ("mobilenet_v3_small", {"minimalistic": True}, 2_044_736, 52_288_448),
    ("mobilenetv4_conv_small", {}, 3_774_024, 186_005_568),
    ("mobileone_s0", {"deploy": True}, 2_078_504, 275_110_400),
    ("shufflenet_v1", {"groups": 1}, 1_531_936, 143_078_976),
    ("shufflenet_v1", {"groups": 2}, 1_733_848, 140_836_512),
    ("shufflenet_v1", {}, 1_865_728, 137_460_672),
    ("shufflenet_v1", {"groups": 4}, 1_968_344, 134_339_776),
    ("shufflenet_v1", {"groups": 8}, 2_434_768, 138_365_952),
    ("shufflenet_v1", {"scale": 0.5}, 718_324, 37_589_856),
    ("shufflenet_v1", {"scale": 1.5}, 3_442_168, 292_443_552),
    ("shufflenet_v1", {"scale": 2.0}, 5_450_776, 524_045_184),
    ("shufflenet_v2_x0_5", {}, 1_366_792, 40_476_448),
    ("shufflenet_v2_x1_0", {}, 2_278_604, 144_907_992),
    ("shufflenet_v2_x1_5", {}, 3_503_624, 295_759_392),
    ("shufflenet_v2_x2_0", {}, 7_393_996, 583_253_464),
    ("ghostnet_050", {}, 2_587_292, 42_328_152),
    ("ghostnet_100", {}, 5_182_508, 141_150_512),
    ("ghostnet_130", {}, 7_358_820, 227_003_256),
    ("squeezenet1_0", {}, 1_248_424, 818_924_576),
    ("squeezenet1_1", {}, 1_235_496, 349_151_936),
    ("efficientnet_b0", {}, 5_288_548, 385_814_752),
    ("efficientnet_lite0", {}, 4_652_008, 385_187_552),
    ("resnet18", {}, 11_689_512, 1_814_073_344),
    ("resnet50", {}, 25_557_032, 4_089_184_256),
    ("cifar_resnet20", {}, 269_722, 40_551_040),
    ("cifar_resnet56", {}, 853_018, 125_485_696),
]

# Architecture, arguments, MACs in millions as its paper prints them, allowed difference of them.
PRINTED: list[tuple[str, Arguments, float, float]] = [
    ("mobilenet_v1", {}, 569, 0.5),
    ("mobilenet_v1", {"width_mult": 0.75}, 325, 0.5),
    ("mobilenet_v1", {"width_mult": 0.5}, 149, 0.5),
    ("mobilenet_v1", {"width_mult": 0.25}, 41, 0.5),
    ("mobilenet_v2", {}, 300, 1),
    ("mobilenet_v2", {"width_mult": 1.4}, 585, 3),
    ("mobilenet_v2", {"width_mult": 0.75}, 209, 0.5),
    ("mobilenet_v2", {"width_mult": 0.5}, 97, 0.5),
    ("mobilenet_v2", {"width_mult": 0.35}, 59, 0.5),
    # The paper prints 219 and 56, and an earlier text of it 66 for small: what it counts, it does
    # not say. Ours is torchvision's network and the definition above.
    ("mobilenet_v3_large", {}, 217, 0.5),
    ("mobilenet_v3_small", {}, 56, 1),
    ("mobileone_s0", {"deploy": True}, 275, 0.5),
    ("shufflenet_v1", {}, 140, 3),
    ("shufflenet_v2_x0_5", {}, 41, 1),
    ("shufflenet_v2_x1_0", {}, 145, 1.5),
    ("shufflenet_v2_x1_5", {}, 299, 4),
    ("shufflenet_v2_x2_0", {}, 591, 8),
    # Ours is timm's network; the paper's may have counted a little more, for instance the means.
    ("ghostnet_050", {}, 42, 0.5),
    ("ghostnet_100", {}, 142, 1),
    ("ghostnet_130", {}, 226, 1.5),
    ("efficientnet_b0", {}, 390, 5),
]


def case_id(value: Any) -> str | None:
    if isinstance(value, dict):
        return "-".join(f"{key}={setting}" for key, setting in value.items())
    return value if isinstance(value, str) else ""


def macs_and_parameters(name: str, arguments: Arguments) -> tuple[int, int]:
    side = 32 if name.startswith("cifar") else 224
    with torch.device("meta"):  # shapes alone: no arithmetic
        found = cost(plugins.architecture(name)(**arguments).eval(), ImageSpec(side, side))
    return found.macs, found.parameters


@pytest.mark.parametrize(("name", "arguments", "parameters", "macs"), FIGURES, ids=case_id)
def test_figures_are_exact(name: str, arguments: Arguments, parameters: int, macs: int) -> None:
    assert macs_and_parameters(name, arguments) == (macs, parameters)


@pytest.mark.parametrize(("name", "arguments", "millions", "within"), PRINTED, ids=case_id)
def test_macs_are_those_of_the_paper(
    name: str, arguments: Arguments, millions: float, within: float
) -> None:
    assert macs_and_parameters(name, arguments)[0] / 1e6 == pytest.approx(millions, abs=within)


def test_every_architecture_has_its_figures() -> None:
    assert {name for name, *_ in FIGURES} == set(plugins.architectures())


def test_mobileone_trains_more_than_it_deploys() -> None:
    assert macs_and_parameters("mobileone_s0", {})[1] == 5_293_272


@pytest.mark.parametrize(
    ("name", "width_mult", "depth_mult", "parameters"),
    [  # torchvision's B1 to B3, timm's Lite1 to Lite3: published coefficients of compound scaling
        ("efficientnet_b0", 1.0, 1.1, 7_794_184),
        ("efficientnet_b0", 1.1, 1.2, 9_109_994),
        ("efficientnet_b0", 1.2, 1.4, 12_233_232),
        ("efficientnet_lite0", 1.0, 1.1, 5_416_680),
        ("efficientnet_lite0", 1.1, 1.2, 6_092_072),
        ("efficientnet_lite0", 1.2, 1.4, 8_197_096),
    ],
)
def test_compound_scaling_gives_the_larger_ones(
    name: str, width_mult: float, depth_mult: float, parameters: int
) -> None:
    arguments = {"width_mult": width_mult, "depth_mult": depth_mult}
    assert macs_and_parameters(name, arguments)[1] == parameters
