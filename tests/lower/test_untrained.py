from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.errors import InputError, SpecError, UnknownName
from edgekit.lower import untrained
from edgekit.lower.calibrate import from_photographs
from edgekit.lower.load import load_network
from edgekit.spec import ImageSpec

IMAGE = ImageSpec(32, 32, mean=(0.2, 0.5, 0.7), std=(0.1, 0.2, 0.4))


class Blocks(nn.Module):
    """Two batch norms, of which the second sees what the first gives."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6, momentum=0.3))
        self.second = nn.Sequential(nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4, momentum=None))
        self.head = nn.Sequential(nn.Dropout(0.9), nn.Linear(4, 5), nn.BatchNorm1d(5))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x)))).mean((2, 3))
        logits: Tensor = self.head(x)
        return logits


@pytest.fixture
def blocks() -> nn.Module:
    torch.manual_seed(0)
    return Blocks()


def planes() -> Tensor:
    """(32, 3, 32, 32): the sample views, normalised by numpy."""
    pixels = np.concatenate(from_photographs(IMAGE, untrained.IMAGES).inputs).astype(np.float64)
    normalised = (pixels / 255 - IMAGE.mean) / IMAGE.std
    return torch.from_numpy(normalised.astype(np.float32)).permute(0, 3, 1, 2)


def seen(module: nn.Module, name: str, x: Tensor) -> Tensor:
    """What a layer gives for `x`."""
    found: list[Tensor] = []
    handle = module.get_submodule(name).register_forward_hook(lambda _m, _i, y: found.append(y))
    with torch.no_grad():
        module(x)
    handle.remove()
    return found[0]


def test_each_batch_norm_gives_one_on_average_with_unit_variance(blocks: nn.Module) -> None:
    settled = untrained.settle(blocks, IMAGE)
    assert settled is blocks
    for name in ("first", "second"):
        y = seen(blocks, f"{name}.1", planes())
        torch.testing.assert_close(y.mean((0, 2, 3)), torch.ones(y.shape[1]), rtol=0, atol=1e-3)
        torch.testing.assert_close(y.std((0, 2, 3)), torch.ones(y.shape[1]), rtol=0, atol=1e-2)


def test_nothing_else_is_changed(blocks: nn.Module) -> None:
    before = {name: value.clone() for name, value in blocks.state_dict().items()}
    untrained.settle(blocks.train(), IMAGE)
    after = blocks.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {
        f"{block}.1.{name}"
        for block in ("first", "second")
        for name in ("bias", "running_mean", "running_var", "num_batches_tracked")
    }
    assert not any(part.training for part in blocks.modules())
    norms = [part for part in blocks.modules() if isinstance(part, nn.BatchNorm2d)]
    assert [norm.momentum for norm in norms] == [0.3, None]


def test_a_batch_norm_without_a_shift_is_settled_too() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, affine=False))
    y = seen(untrained.settle(module, IMAGE), "1", planes())
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(6), rtol=0, atol=1e-3)


def test_a_network_without_batch_norm_is_left() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
    before = {name: value.clone() for name, value in module.state_dict().items()}
    untrained.settle(module, IMAGE)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def load(name: str = "shufflenet_v2_x0_5", labels: Path | None = None) -> nn.Module:
    small = ImageSpec(32, 32)
    return load_network(name, "random", labels, small, {"num_classes": 4}).module


def test_random_weights_are_the_same_each_time() -> None:
    torch.manual_seed(5)
    first = load()
    following = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(following, torch.rand(3)), "the caller's random numbers are their own"
    torch.manual_seed(6)
    second = load()
    one, two = first.state_dict(), second.state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_an_architecture_is_ready_to_lower_without_weights() -> None:
    network = load_network("mobilenet_v2", "random", image=IMAGE, arguments={"num_classes": 4})
    assert (network.name, network.classes, network.trained) == ("mobilenet_v2", 4, False)
    assert (network.checkpoint_sha256, network.accuracy) == ("", None)
    assert network.image == IMAGE
    assert network.labels == ("class 0", "class 1", "class 2", "class 3")
    kinds = [type(part) for part in network.module.modules()]
    assert nn.BatchNorm2d in kinds, "the gate folds it, and compares"
    assert not any(part.training for part in network.module.modules())
    with torch.inference_mode():
        logits = network.module(planes())
    assert torch.isfinite(logits).all()
    assert logits.std(0).min() > 0, "each logit depends on the image"


def test_labels_are_read_as_of_any_network(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("a\nb\nc\nd\n")
    found = load_network("squeezenet1_1", "random", path, ImageSpec(32, 32), {"num_classes": 4})
    assert found.labels == ("a", "b", "c", "d")
    path.write_text("a\nb\n")
    with pytest.raises(InputError, match="has 2 labels; the network has 4 classes"):
        load("squeezenet1_1", path)


def unknown() -> object:
    return load_network("mobilenet_v22", "random")


def argument() -> object:
    return load_network("mobilenet_v2", "random", arguments={"widht": 1})


def own() -> object:
    return load_network("nowhere.networks:mine", "random")


@pytest.mark.parametrize(
    ("wrong", "kind", "says"),
    [
        (unknown, UnknownName, "did you mean 'mobilenet_v2'"),
        (argument, SpecError, "widht"),
        (own, UnknownName, "random"),
    ],
    ids=["architecture", "argument", "the user's own function"],
)
def test_what_cannot_be_random_says_why(
    wrong: Callable[[], object], kind: type[InputError], says: str
) -> None:
    with pytest.raises(kind) as caught:
        wrong()
    assert says in str(caught.value)
