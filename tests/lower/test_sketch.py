import math
from pathlib import Path

import pytest
import torch

from edgekit import checkpoint, plugins
from edgekit.cost.layers import cost
from edgekit.errors import InputError, SpecError, UnknownName
from edgekit.lower.sketch import flow, parse_size, sketch, unfolded_parameters

NETWORKS = """
import torch
from torch import nn

class Choosy(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        x = self.conv(x)
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))

def normed(width=8):
    conv, norm = nn.Conv2d(3, width, 3, stride=2), nn.BatchNorm2d(width)
    return nn.Sequential(conv, norm, nn.AdaptiveAvgPool2d(1), nn.Flatten())

def grown():
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of a user's networks, importable from the current folder."""
    (tmp_path / "my_sketched_networks.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return "my_sketched_networks"


def test_an_architecture_with_arguments_and_a_size() -> None:
    network = sketch("mobilenet_v2", {"width_mult": 0.35, "num_classes": 7}, (96, 128))
    assert (network.image.height, network.image.width, network.classes) == (96, 128, 7)
    assert network.arguments == {"width_mult": 0.35, "num_classes": 7}
    assert any(isinstance(child, torch.nn.BatchNorm2d) for child in network.module.modules())
    assert unfolded_parameters(network) is None


def test_a_checkpoint_is_folded() -> None:
    network = sketch(checkpoint.default().stem, size=(64, 64))
    assert network.image.crop_fraction == 1  # of its card; the size alone is ours
    assert (network.image.height, network.image.width) == (64, 64)
    unfolded = unfolded_parameters(network)
    assert unfolded is not None
    assert unfolded > sum(p.numel() for p in network.module.parameters())


def test_a_users_network_is_as_it_was_built(networks: str) -> None:
    network = sketch(f"{networks}:normed", {"width": 4}, (32, 32))
    assert (network.name, network.classes) == ("normed", 4)
    assert sum(p.numel() for p in network.module.parameters()) == 4 * 27 + 4 + 8
    found = flow(network)
    assert found.unknown == ()
    assert found.peak is not None
    assert found.field is not None
    assert (found.peak.bytes, found.field.pixels) == (4 * (3 * 32 * 32 + 4 * 15 * 15), 3)


def test_what_the_graph_does_not_tell_is_said(
    networks: str, capfd: pytest.CaptureFixture[str]
) -> None:
    found = flow(sketch(f"{networks}:Choosy"))
    (line,) = found.unknown
    assert (found.peak, found.field) == (None, None)
    assert "PyTorch cannot export this network" in line
    assert "\n" not in line
    assert "def forward" not in capfd.readouterr().err
    found = flow(sketch(f"{networks}:grown"))
    (line,) = found.unknown
    assert line.startswith("receptive field: its pixels cannot be followed through 0 (upsample")
    assert found.peak is not None


def test_what_does_not_fit() -> None:
    with pytest.raises(SpecError, match="does not take {'widht': 2}"):
        sketch("mobilenet_v2", {"widht": 2})
    with pytest.raises(SpecError, match=r"does not take a \(1, 3, 3, 3\) float tensor"):
        sketch("squeezenet1_1", size=(3, 3))
    with pytest.raises(UnknownName, match="did you mean 'mobilenet_v2'"):
        sketch("mobilnet_v2")


def test_sizes() -> None:
    assert parse_size("96") == (96, 96)
    assert parse_size("160x128") == (128, 160)  # width x height, as cameras say it


@pytest.mark.parametrize("text", ["", "0", "x96", "96x", "-1", "9.5", "96X96", "1e3", "٣٢"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InputError, match="WIDTHxHEIGHT"):
        parse_size(text)


# Araujo et al., 2019 (https://distill.pub/2019/computing-receptive-fields), and by hand.
FIELDS = {"resnet18": 435, "mobilenet_v1": 315, "mobilenet_v2": 491, "squeezenet1_1": 207}


@pytest.mark.slow
@pytest.mark.parametrize("name", plugins.architectures())
def test_every_architecture_has_a_flow(name: str) -> None:
    network = sketch(name, size=(64, 96))
    found = flow(network)
    assert found.unknown == ()
    assert found.peak is not None
    assert found.field is not None
    assert found.field.pixels == FIELDS.get(name, found.field.pixels)
    layers = cost(network.module, network.image).layers
    assert found.peak.bytes > 4 * max(math.prod(layer.output) for layer in layers)
