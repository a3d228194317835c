"""The whole zoo, by listing: masked and compacted networks answer the same."""

import pytest
import torch

from edgekit import plugins
from edgekit.cost.layers import cost
from edgekit.learn.prune.channels.criteria import scores
from edgekit.learn.prune.channels.target import candidates, flow_of, prune_to
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.recipe.steps import PruneStep
from edgekit.lower.widths import apply_widths
from edgekit.spec import ImageSpec

from .conftest import Law, agree, settle

# Of families with several builders, the others differ in widths and repeats alone.
QUICK = {
    *("cifar_resnet20", "efficientnet_lite0", "ghostnet_050", "mobilenet_v1", "mobilenet_v2"),
    *("mobilenet_v3_small", "mobilenetv4_conv_small", "resnet18", "shufflenet_v1"),
    *("shufflenet_v2_x0_5", "squeezenet1_1"),
}
ZOO = [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
    for name in plugins.architectures()
]
STEP = PruneStep("prune", "prune", "channels", Fit(0.1), macs=0.5)


def build(name: str, **arguments: int | float) -> torch.nn.Module:
    torch.manual_seed(0)
    module = plugins.architecture(name)(num_classes=10, **arguments)
    assert isinstance(module, torch.nn.Module)
    return module


@pytest.mark.parametrize("name", ZOO)
def test_half_the_macs_are_left_and_masked_and_compacted_agree(name: str) -> None:
    side = 32 if name.startswith("cifar") else 64
    image, module = ImageSpec(side, side), build(name).eval()
    settle(module).float()
    flow = flow_of(module, image)
    found = candidates(module, image, STEP, flow, scores(module, flow, STEP, None))  # type: ignore[arg-type]
    small = prune_to(found, 0.5)
    assert cost(small.module, image).macs / cost(module, image).macs == pytest.approx(0.5, abs=0.03)
    same = apply_widths(build(name), small.widths)  # as a card has them
    same.load_state_dict(small.module.state_dict())
    module.double(), small.module.double()
    agree(module, flow, small, (side, side))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("shufflenet_v1", {"groups": 2}),
        pytest.param("shufflenet_v1", {"groups": 8, "scale": 0.5}, marks=pytest.mark.slow),
        ("shufflenet_v2_x1_0", {}),
        ("mobilenet_v3_small", {"width_mult": 0.5}),
        ("mobileone_s0", {"deploy": True}),
        ("cifar_resnet20", {}),
    ],
)
def test_any_widths_agree(name: str, arguments: dict[str, int | float], holds: Law) -> None:
    holds(build(name, **arguments), multiple=4)


@pytest.mark.slow
def test_a_pruned_network_with_branches_is_deployed_as_one_without(holds: Law) -> None:
    small, _ = holds(build("mobileone_s0"), multiple=8)
    noise = torch.randn(1, 3, 32, 32).double()
    with torch.inference_mode():
        wanted = small.module(noise)
        small.module.reparameterize()  # type: ignore[operator]
        assert not any("rbr" in key for key in small.module.state_dict())
        assert torch.allclose(small.module(noise), wanted)


def test_what_is_pruned_twice_still_agrees(holds: Law) -> None:
    for name in ("cifar_resnet20", "shufflenet_v2_x0_5", "ghostnet_050"):
        small, _ = holds(build(name), multiple=2)
        holds(small.module, multiple=1, seed=1)
