"""ShuffleNet V2 does what the authors' code does, with its channels in another order."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from architectures._shufflenet_v2_original import _flow
from architectures.shufflenet_v2 import (
    ShuffleUnit,
    from_original,
    shufflenet_v2_x0_5,
    shufflenet_v2_x1_0,
    shufflenet_v2_x2_0,
)


def chain(*layers: tuple[int, int, int, int, int, bool]) -> nn.Sequential:
    """Convolutions (c_in, c_out, kernel, stride, groups, ReLU or not) with batch norm."""
    modules: list[nn.Module] = []
    for c_in, c_out, kernel, stride, groups, has_relu in layers:
        modules += [
            nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(c_out),
            *([nn.ReLU()] if has_relu else []),
        ]
    return nn.Sequential(*modules)


class OriginalUnit(nn.Module):
    """The authors' arithmetic: even channels pass, odd ones are worked on; nothing is shuffled."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        half = c_out // 2
        enters = c_in if stride == 2 else half
        self.stride = stride
        self.branch_main = chain(
            (enters, half, 1, 1, 1, True),
            (half, half, 3, stride, half, False),
            (half, c_out - enters, 1, 1, 1, True),
        )
        if stride == 2:
            self.branch_proj = chain((c_in, c_in, 3, 2, c_in, False), (c_in, c_in, 1, 1, 1, True))

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 2:
            return torch.cat((self.branch_proj(x), self.branch_main(x)), dim=1)
        return torch.cat((x[:, 0::2], self.branch_main(x[:, 1::2])), dim=1)


class Original(nn.Module):
    """The authors' network and names; `is_backbone` has a detector's, and ends after stage 4."""

    def __init__(self, channels: tuple[int, int, int], is_backbone: bool = False):
        super().__init__()
        self.first_conv = chain((3, 24, 3, 2, 1, True))
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.names: list[str] = []
        units: list[nn.Module] = []
        c_in = 24
        for number, (c_out, n) in enumerate(zip(channels, (4, 8, 4), strict=True), start=2):
            stage = [
                OriginalUnit(c_in if i == 0 else c_out, c_out, 2 if i == 0 else 1) for i in range(n)
            ]
            if is_backbone:
                self.add_module(f"stage{number}", nn.Sequential(*stage))
            units += stage
            c_in = c_out
        self.units = tuple(units)
        if not is_backbone:
            self.features = nn.Sequential(*units)
            self.conv_last = chain((c_in, 1024, 1, 1, 1, True))
            self.classifier = nn.Sequential(nn.Linear(1024, 10, bias=False))
        self.is_backbone = is_backbone

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.first_conv(x))
        for unit in self.units:
            x = unit(x)
        return x if self.is_backbone else self.classifier(self.conv_last(x).mean(dim=(2, 3)))


@torch.no_grad()
def randomise(module: nn.Module) -> nn.Module:
    """Weights and batch-norm statistics that no two channels share; float64."""
    torch.manual_seed(0)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            for tensor in (child.weight, child.running_var):
                assert tensor is not None
                tensor.uniform_(0.5, 1.5)
            for tensor in (child.bias, child.running_mean):
                assert tensor is not None
                tensor.normal_(0, 0.3)
    return module.double().eval()


@pytest.fixture(scope="module")
def original() -> Original:
    network = randomise(Original((48, 96, 192)))
    assert isinstance(network, Original)
    return network


def test_the_authors_checkpoint_gives_the_authors_logits(original: Original) -> None:
    ours = shufflenet_v2_x0_5(num_classes=10).double().eval()
    ours.load_state_dict(from_original(original.state_dict()), strict=True)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        theirs, logits = original(images), ours(images)
    assert theirs.abs().max() > 0.01
    torch.testing.assert_close(logits, theirs, rtol=1e-10, atol=1e-10)


def test_without_the_permutation_the_logits_are_others(original: Original) -> None:
    converted = from_original(original.state_dict())
    name = "stage3.4.branch2.0.weight"
    converted[name] = original.state_dict()["features.8.branch_main.0.weight"]
    ours = shufflenet_v2_x0_5(num_classes=10).double().eval()
    ours.load_state_dict(converted)
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        assert (ours(images) - original(images)).abs().max() > 1e-5


def maps(state: dict[str, Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """What leaves stage 4 in the authors' network, and in ours put in the authors' order.

    The unit matrix for a last convolution comes out as the matrix that restores the order.
    """
    theirs = Original((48, 96, 192), is_backbone=True).to(images.dtype).eval()
    assert theirs.load_state_dict(state, strict=False).unexpected_keys == []
    converted = from_original({**state, "conv_last.0.weight": torch.eye(192)[..., None, None]})
    restore = converted.pop("conv5.0.weight").to(images.dtype)
    assert not torch.equal(restore[..., 0, 0], torch.eye(192))  # there is something to restore
    ours = shufflenet_v2_x0_5(num_classes=0).to(images.dtype).eval()
    left = ours.load_state_dict(converted, strict=False)
    assert left.unexpected_keys == []
    assert {name.split(".")[0] for name in left.missing_keys if "num_batches" not in name} == {
        "conv5"
    }
    with torch.inference_mode():
        x = ours.stage4(ours.stage3(ours.stage2(ours.maxpool(ours.conv1(images)))))
        return theirs(images), nn.functional.conv2d(x, restore)


def test_a_backbone_alone_gives_the_same_maps() -> None:
    state = randomise(Original((48, 96, 192), is_backbone=True)).state_dict()
    theirs, ours = maps(state, torch.randn(1, 3, 96, 96, dtype=torch.float64))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_the_shared_backbone_gives_the_same_maps(shared: Path) -> None:
    state = load_file(shared / "weights" / "shufflenet_v2_x0_5_backbone.safetensors")
    torch.manual_seed(0)
    theirs, ours = maps(state, torch.randn(1, 3, 96, 96))
    assert theirs.max() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_channels_live_equally_long_in_both_networks() -> None:
    for half in (2, 24, 58, 122):
        for units in (4, 8):
            ours, theirs = _flow(units, half, False), _flow(units, half, True)
            for mine, original in zip(ours, theirs, strict=True):
                assert sorted(c[:2] for c in mine) == sorted(c[:2] for c in original)


def test_the_authors_wider_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="24 and 92 channels of 24; .* only x0.5"):
        from_original(Original((116, 232, 464)).state_dict())


def test_torchvisions_own_names_are_refused() -> None:
    with pytest.raises(ValueError, match="torchvision's names already"):
        from_original(shufflenet_v2_x0_5(10).state_dict())


def test_a_missing_stage_is_named(original: Original) -> None:
    state = {k: v for k, v in original.state_dict().items() if not k.startswith("features.4.")}
    with pytest.raises(ValueError, match=r"no stage3\.0\.branch1\.2\.weight"):
        from_original(state)


def test_a_unit_passes_half_of_its_channels_untouched() -> None:
    unit = ShuffleUnit(8).eval()
    x = torch.rand(1, 8, 4, 4)
    with torch.inference_mode():
        y = unit(x)
    torch.testing.assert_close(y[:, 0::2], x[:, :4], rtol=0, atol=0)  # dealt to the even places


def test_dropout_only_at_x2() -> None:
    assert shufflenet_v2_x1_0().dropout.p == 0
    assert shufflenet_v2_x2_0().dropout.p == 0.2
    assert shufflenet_v2_x2_0(num_classes=0).dropout.p == 0
