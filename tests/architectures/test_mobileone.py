"""Both forms of MobileOne are the same function."""

import pytest
import torch
from torch import nn

from architectures.mobileone import MobileOneBlock, mobileone_s0


@torch.no_grad()
def randomise(module: nn.Module) -> None:
    """Weights and batch-norm statistics as training leaves them: none is at its start."""
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.2, 0.6)
        nn.init.normal_(norm.bias, 0, 0.2)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_(0, 0.2)
        norm.running_var.uniform_(0.5, 1.5)


@pytest.fixture
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize(
    ("c_in", "c_out", "kernel", "stride", "groups"),
    [
        (3, 8, 3, 2, 1),  # the stem
        (8, 8, 3, 2, 8),  # depthwise, no skip
        (8, 8, 3, 1, 8),  # depthwise, skip
        (8, 12, 1, 1, 1),  # pointwise, neither scale nor skip
        (8, 8, 1, 1, 1),  # pointwise, skip
        (8, 8, 3, 1, 2),  # grouped: the skip is each group's own
        (4, 4, 5, 1, 1),  # a wider rim for the 1x1
    ],
)
@pytest.mark.parametrize("branches", [1, 4])
def test_a_block_becomes_one_convolution(
    c_in: int, c_out: int, kernel: int, stride: int, groups: int, branches: int
) -> None:
    block = MobileOneBlock(c_in, c_out, kernel, stride, groups, branches).eval()
    randomise(block)
    x = torch.randn(2, c_in, 9, 12)
    with torch.inference_mode():
        trained = block(x)
        block.reparameterize()
        deployed = block(x)
    assert (trained - deployed).abs().max() <= 1e-5
    assert set(block.state_dict()) == {"reparam_conv.weight", "reparam_conv.bias"}


@pytest.mark.usefixtures("seeded")
def test_the_network_is_equal_at_every_stage() -> None:
    network = mobileone_s0(num_classes=10).eval()
    randomise(network)
    images = torch.rand(2, 3, 96, 64)
    with torch.inference_mode():
        maps, logits = network.feature_maps(images), network(images)
        network.reparameterize()
        after, deployed = network.feature_maps(images), network(images)
    for before, now in zip((*maps, logits), (*after, deployed), strict=True):
        assert (before - now).abs().max() <= 1e-5 * max(1.0, float(before.abs().max()))


def test_reparameterize_twice_is_once_and_gives_the_deploy_form() -> None:
    network = mobileone_s0(num_classes=10).eval()
    network.reparameterize()
    first = {key: value.clone() for key, value in network.state_dict().items()}
    for module in list(network.modules()):
        if isinstance(module, MobileOneBlock):
            module.reparameterize()
    again = network.state_dict()
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    mobileone_s0(num_classes=10, deploy=True).load_state_dict(first)


def test_names_of_the_train_form_are_apples() -> None:
    state = {key: tuple(value.shape) for key, value in mobileone_s0().state_dict().items()}
    assert state["stage0.rbr_conv.0.conv.weight"] == (48, 3, 3, 3)
    assert state["stage0.rbr_scale.conv.weight"] == (48, 3, 1, 1)
    assert state["stage1.1.rbr_skip.running_var"] == (48,)
    assert state["stage3.19.rbr_conv.3.bn.weight"] == (256,)
    assert state["linear.weight"] == (1000, 1024)
