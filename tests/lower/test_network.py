import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn

from architectures.mobilenet_v2 import mobilenet_v2
from edgekit import checkpoint
from edgekit.errors import CheckpointError, InputError, SpecError, UnknownName
from edgekit.lower.load import IMAGENET, load_network
from edgekit.lower.network import CameraInput, Network, fold_batch_norm, load_weights
from edgekit.lower.network import folded as folded_copy
from edgekit.spec import ImageSpec

USERS = """
import torch
from torch import nn

def tiny():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Dropout(0.5), nn.Linear(4, 5)).train()

def no_module(): return {"state_dict": 1}
def raises(): raise ZeroDivisionError("of my own")
def planes(): return nn.Conv2d(3, 4, 3)
def two(): return Two()
def square_only(): return nn.Sequential(nn.Flatten(), nn.Linear(3, 4))
not_callable = 7

class Two(nn.Module):
    def forward(self, x): return x.mean((2, 3)), x

def named(): return Named()
def nothing(): return Nothing()

class Named(nn.Module):
    def forward(self, x): return {"aux": x, "out": x.mean((2, 3))}

class Nothing(nn.Module):
    def forward(self, x): return None
"""


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of the user's, in the folder where they are; its name."""
    name = f"users_{tmp_path.name}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "networks.py").write_text(USERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return f"{name}.networks"


def uneven(module: nn.Module) -> nn.Module:
    """Batch norm as after training, no parameter at its initial value."""
    random = torch.Generator().manual_seed(1)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            for value, low, high in (
                (child.weight, 0.5, 2.0),
                (child.bias, -1.0, 1.0),
                (child.running_mean, -1.0, 1.0),
                (child.running_var, 0.2, 3.0),
            ):
                assert value is not None
                value.data.uniform_(low, high, generator=random)
    return module.eval()


@pytest.fixture(scope="module")
def small() -> nn.Module:
    """Not to be changed."""
    torch.manual_seed(0)
    return uneven(mobilenet_v2(num_classes=10, width_mult=0.35))


def arrays(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in module.state_dict().items()}


def same(first: nn.Module, second: nn.Module, relative: float) -> None:
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        one, two = first(pixels), second(pixels)
    assert one.std() > 0.01
    assert (one - two).abs().max() <= relative * one.abs().max()


def test_folding_keeps_the_outputs_and_leaves_no_batch_norm(small: nn.Module) -> None:
    folded = fold_batch_norm(copy.deepcopy(small))
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not any(m.training for m in folded.modules())
    same(small, folded, 1e-5)


def test_folding_again_changes_nothing(small: nn.Module) -> None:
    folded = fold_batch_norm(copy.deepcopy(small))
    before = arrays(folded)
    after = arrays(fold_batch_norm(folded))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_batch_norm_elsewhere_stays(small: nn.Module) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4))
    uneven(module)
    folded = fold_batch_norm(copy.deepcopy(module))
    assert [type(m) for m in folded.children()] == [type(m) for m in module.children()]
    same(module, folded, 1e-6)


class Parts(nn.Module):
    """Two convolutions of 4 channels and two batch norms, which a test's `body` uses."""

    def __init__(self, body: Callable[["Parts", Tensor], Any]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.conv: Any = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm: Any = nn.BatchNorm2d(4)
        self.other = nn.BatchNorm2d(4)
        self.body = body

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        found: Tensor = self.body(self, self.stem(x))
        return found if mask is None else found * mask


Body = Callable[[Parts, Tensor], Any]


def folded(body: Body, change: Callable[[Parts], None] = lambda parts: None) -> nn.Module:
    """With batch norm folded, found to compute the same."""
    torch.manual_seed(0)
    module = Parts(body)
    uneven(module)
    change(module)
    result = fold_batch_norm(copy.deepcopy(module))
    same(module, result, 1e-5)
    return result


def norms(module: nn.Module) -> list[str]:
    return [n for n, part in module.named_modules() if isinstance(part, nn.BatchNorm2d)]


def residual(m: Parts, x: Tensor) -> Any:
    return torch.relu(m.norm(m.conv(x))) + x


def in_a_loop(m: Parts, x: Tensor) -> Any:
    for layer in (m.conv, m.norm):
        x = layer(x)
    return x


@pytest.mark.parametrize("body", [residual, in_a_loop])
def test_a_batch_norm_is_folded_wherever_it_takes_a_convolutions_output(body: Body) -> None:
    result = folded(body)
    assert norms(result) == ["other"], "nobody uses it"
    assert isinstance(result.norm, nn.Identity)
    assert isinstance(result.conv, nn.Conv2d)
    assert result.conv.bias is not None


def read_twice(m: Parts, x: Tensor) -> Any:
    x = m.conv(x)
    return m.norm(x) + x


def changed_between(m: Parts, x: Tensor) -> Any:
    x = m.conv(x)
    x += 1
    return m.norm(x)


def two_norms(m: Parts, x: Tensor) -> Any:
    x = m.conv(x)
    return m.norm(x) - m.other(x)


def convolution_run_twice(m: Parts, x: Tensor) -> Any:
    return m.norm(m.conv(x)) + m.other(m.conv(x + 1))


def norm_run_twice(m: Parts, x: Tensor) -> Any:
    return m.norm(m.conv(x)) + m.norm(x)


def weight_read_elsewhere(m: Parts, x: Tensor) -> Any:
    return m.norm(m.conv(x)) + nn.functional.conv2d(x, m.conv.weight, padding=1)


def scale_read_elsewhere(m: Parts, x: Tensor) -> Any:
    return m.norm(m.conv(x)) * m.norm.weight.sum()


def activation_between(m: Parts, x: Tensor) -> Any:
    return m.norm(torch.relu(m.conv(x)))


@pytest.mark.parametrize(
    "body",
    [
        *(read_twice, changed_between, two_norms, convolution_run_twice, norm_run_twice),
        *(weight_read_elsewhere, scale_read_elsewhere, activation_between),
    ],
    ids=lambda body: body.__name__,
)
def test_what_something_else_reads_is_not_folded(body: Body) -> None:
    assert norms(folded(body)) == ["norm", "other"]


class Activated(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return torch.relu(super().forward(input))


class Standardised(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return nn.functional.conv2d(input, weight / weight.std(), self.bias, padding=1)


def activated(m: Parts) -> None:
    m.norm = uneven(Activated(4))


def standardised(m: Parts) -> None:
    m.conv = Standardised(4, 4, 3, padding=1)


def of_the_batch(m: Parts) -> None:
    m.norm = nn.BatchNorm2d(4, track_running_stats=False).eval()


def doubled(conv: nn.Module, given: object, result: Tensor) -> Tensor:
    return 2 * result


def hooked(m: Parts) -> None:
    m.conv.register_forward_hook(doubled)


def parametrised(m: Parts) -> None:
    nn.utils.parametrizations.weight_norm(m.conv)


@pytest.mark.parametrize(
    "change",
    [activated, standardised, of_the_batch, hooked, parametrised],
    ids=lambda change: change.__name__,
)
@pytest.mark.parametrize("traced", [True, False])
def test_a_layer_that_does_more_is_not_folded(
    change: Callable[[Parts], None], traced: bool
) -> None:
    def changed(m: Parts) -> None:
        change(m)
        m.conv = nn.Sequential(m.conv, m.norm)
        m.norm = nn.Identity()

    def body(m: Parts, x: Tensor) -> Any:
        if not traced and x.sum() > 1e9:
            x = x + 1
        return m.conv(x) + x

    assert "conv.1" in norms(folded(body, changed))


def branching(m: Parts, x: Tensor) -> Any:
    return m.conv(x) if x.sum() < 1e9 else m.other(m.conv(x))


def shared(m: Parts) -> None:
    one, two = uneven(nn.BatchNorm2d(4)), uneven(nn.BatchNorm2d(4))
    m.conv = nn.Sequential(nn.Sequential(m.conv, one), nn.Sequential(m.conv, two))


class Reversed(nn.Sequential):
    def forward(self, input: Tensor) -> Tensor:
        for layer in reversed(list(self)):
            input = layer(input)
        return input


def backwards(m: Parts) -> None:
    m.conv = Reversed(m.conv, uneven(nn.BatchNorm2d(4)))


def one_after_another(m: Parts) -> None:
    m.conv = nn.Sequential(m.conv, m.norm)
    m.norm = nn.BatchNorm2d(4)


def test_where_forward_cannot_be_traced_sequences_are_folded() -> None:
    assert norms(folded(branching, one_after_another)) == ["norm", "other"], "those that are unused"
    assert {"conv.0.1", "conv.1.1"} <= set(norms(folded(branching, shared)))
    assert "conv.1" in norms(folded(branching, backwards))


def test_an_optional_input_is_not_given() -> None:
    """Symbols would take the branch of a mask that is there."""

    class Masked(Parts):
        def forward(self, x: Tensor, mask: Tensor | None = None) -> Any:
            x = self.conv(self.stem(x))
            return self.norm(x) if mask is not None else self.norm(x) + x

    torch.manual_seed(0)
    module = Masked(residual)
    uneven(module)
    result = fold_batch_norm(copy.deepcopy(module))
    same(module, result, 1e-5)
    assert "norm" in norms(result)


class Branches(nn.Module):
    """As in MobileOne: several in training, one on a device."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
        self.merged: nn.Conv2d | None = None

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.merged(x) if self.merged else self.one(x) + self.two(x)
        return found

    def reparameterize(self, names: tuple[str, ...] = ("weight", "bias")) -> None:
        if self.merged is None:
            self.merged = nn.Conv2d(3, 4, 1)
            for name in names:
                parts = self.one.get_parameter(name) + self.two.get_parameter(name)
                self.merged.get_parameter(name).data = parts.detach()
            del self.one, self.two


class Autoencoder(nn.Module):
    """Whose method of that name is another one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv(x)
        return found

    def reparameterize(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        raise AssertionError("not asked for")


def test_parts_take_their_deploy_form() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(Branches(), nn.BatchNorm2d(4))
    uneven(module)
    result = fold_batch_norm(copy.deepcopy(module))
    same(module, result, 1e-5)
    assert set(result.state_dict()) == {"0.merged.weight", "0.merged.bias"}
    again = fold_batch_norm(copy.deepcopy(result))
    same(result, again, 0)


def test_another_method_of_that_name_is_left_alone() -> None:
    module = Autoencoder()
    same(module, fold_batch_norm(copy.deepcopy(module)), 0)


@pytest.mark.parametrize("is_folded", [False, True], ids=["unfolded", "folded"])
def test_weights_load_folded_or_not(small: nn.Module, is_folded: bool) -> None:
    stored = fold_batch_norm(copy.deepcopy(small)) if is_folded else small
    torch.manual_seed(99)
    loaded = load_weights(mobilenet_v2(10, width_mult=0.35), arrays(stored), "x.safetensors")
    same(small, loaded, 1e-5)


def test_num_batches_tracked_may_be_there_or_not(small: nn.Module) -> None:
    tensors = arrays(small)
    counters = [name for name in tensors if name.endswith("num_batches_tracked")]
    assert counters
    for name in counters:
        del tensors[name]
    same(small, load_weights(mobilenet_v2(10, width_mult=0.35), tensors, "x"), 1e-5)
    tensors[counters[0]] = np.array(3)
    same(small, load_weights(mobilenet_v2(10, width_mult=0.35), tensors, "x"), 1e-5)


@pytest.mark.parametrize("is_folded", [False, True], ids=["unfolded", "folded"])
def test_the_first_tensor_that_differs_is_named(small: nn.Module, is_folded: bool) -> None:
    module = fold_batch_norm(copy.deepcopy(small)) if is_folded else small
    for name, change, says in (
        ("features.3.conv.0.0.weight", None, "features.3.conv.0.0.weight"),
        ("features.4.conv.1.0.weight", np.zeros((7, 1, 3, 3), np.float32), "(7, 1, 3, 3)"),
        ("features.0.9.weight", np.zeros(1, np.float32), "features.0.9.weight"),
    ):
        tensors = arrays(module)
        if change is None:
            del tensors[name]
        else:
            tensors[name] = change
        with pytest.raises(CheckpointError) as caught:
            load_weights(mobilenet_v2(10, width_mult=0.35), tensors, "mine.safetensors")
        assert name in str(caught.value)
        assert says in str(caught.value)
        assert "mine.safetensors" in str(caught.value)


def test_of_two_wrong_shapes_the_first_in_the_network_is_named(small: nn.Module) -> None:
    tensors = arrays(small)
    for name in ("classifier.1.weight", "features.2.conv.0.0.weight"):
        tensors[name] = tensors[name][:-1]
    with pytest.raises(CheckpointError, match="features.2.conv.0.0.weight"):
        load_weights(mobilenet_v2(10, width_mult=0.35), tensors, "x")


def test_camera_input_normalises_as_numpy_does() -> None:
    image = ImageSpec(5, 7, mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 0.7))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 5, 7, 3), np.uint8)
    expected = (pixels.astype(np.float64) / 255 - image.mean) / image.std
    with torch.inference_mode():
        found = CameraInput(nn.Identity(), image)(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(found, expected.transpose(0, 3, 1, 2), rtol=0, atol=2e-6)


def test_the_carried_checkpoint_is_the_default() -> None:
    network = load_network(None)
    stored = checkpoint.read(checkpoint.default())
    assert stored.card is not None
    assert network.name == stored.card.architecture
    assert network.labels == stored.card.labels
    assert network.image == stored.card.image
    assert network.arguments == stored.card.arguments
    assert network.checkpoint_sha256 == stored.card.sha256
    assert network.classes == len(stored.card.labels)
    assert not network.module.training
    named = load_network(checkpoint.default().stem)
    assert arrays(named.module).keys() == arrays(network.module).keys()
    assert named.checkpoint_sha256 == network.checkpoint_sha256


def test_weights_without_a_card(tmp_path: Path) -> None:
    module = mobilenet_v2(num_classes=7)
    path = tmp_path / "w.safetensors"
    save_file(arrays(module), path)
    with pytest.raises(CheckpointError, match="no card"):
        load_network(str(path))
    image = ImageSpec(32, 32)
    network = load_network("mobilenet_v2", str(path), image=image)
    assert (network.classes, network.image, network.accuracy) == (7, image, None)
    assert load_network("mobilenet_v2", str(path)).image == IMAGENET


def test_a_network_of_the_users_own(users: str) -> None:
    network = load_network(f"{users}:tiny", image=ImageSpec(16, 16))
    assert (network.name, network.classes, network.checkpoint_sha256) == ("tiny", 5, "")
    assert not any(m.training for m in network.module.modules() if isinstance(m, nn.Dropout))
    assert not network.stored_folded
    assert [m for m in network.module.modules() if isinstance(m, nn.BatchNorm2d)], "as it was built"


def test_the_folded_network_is_a_copy(users: str) -> None:
    network = load_network(f"{users}:tiny", image=ImageSpec(16, 16))
    before = arrays(network.module)
    made = folded_copy(network)
    assert not [m for m in made.module.modules() if isinstance(m, nn.BatchNorm2d)]
    assert arrays(network.module).keys() == before.keys()
    assert dataclasses.replace(made, module=network.module) == network


class Uncopied(nn.Module):
    def __deepcopy__(self, memo: object) -> "Uncopied":
        raise TypeError("cannot pickle '_thread.lock' object")


def test_a_network_that_cannot_be_copied_is_refused() -> None:
    network = Network("mine", Uncopied(), ImageSpec(8, 8), ("a",), {}, "")
    with pytest.raises(SpecError, match=r"'mine' cannot be copied.*thread.lock.*copy.deepcopy"):
        folded_copy(network)


@pytest.mark.parametrize("stored_folded", [False, True])
def test_how_the_weights_were_stored_is_kept(
    users: str, tmp_path: Path, stored_folded: bool
) -> None:
    network = load_network(f"{users}:tiny", image=ImageSpec(16, 16))
    stored = folded_copy(network) if stored_folded else network
    save_file(arrays(stored.module), tmp_path / "w.safetensors")
    path = str(tmp_path / "w.safetensors")
    again = load_network(f"{users}:tiny", path, image=ImageSpec(16, 16))
    assert again.stored_folded == stored_folded
    norms = [m for m in again.module.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == (0 if stored_folded else 1)


def test_a_network_of_the_users_own_with_weights(users: str, tmp_path: Path) -> None:
    module = load_network(f"{users}:tiny", image=ImageSpec(16, 16)).module
    state = arrays(module)
    changed = {n: value + 1 for n, value in state.items() if not n.endswith("num_batches_tracked")}
    save_file(changed, tmp_path / "w.safetensors")
    network = load_network(
        f"{users}:tiny", str(tmp_path / "w.safetensors"), image=ImageSpec(16, 16)
    )
    found = arrays(network.module)
    assert all(np.array_equal(found[name], changed[name]) for name in changed)
    assert len(network.checkpoint_sha256) == 64


@pytest.mark.parametrize(
    ("function", "kind", "says"),
    [
        ("no_module", InputError, "returned a dict; it must be an nn.Module"),
        ("raises", InputError, "raised ZeroDivisionError: of my own"),
        ("absent", InputError, "no attribute 'absent'"),
        ("not_callable", InputError, "TypeError"),
        (
            "planes",
            SpecError,
            "gives (1, 4, 14, 14); an image classifier gives one tensor",
        ),
        ("planes", SpecError, "pool over the map"),
        ("two", SpecError, "gives a tuple of (1, 3) and (1, 3, 16, 16); an image classifier"),
        ("two", SpecError, "'return self.network(x)[0]'"),
        ("named", SpecError, "gives a dict of aux: (1, 3, 16, 16), out: (1, 3); an image"),
        ("named", SpecError, "'return self.network(x)['out']'"),
        ("nothing", SpecError, "gives a NoneType"),
        ("square_only", SpecError, "does not take a (1, 3, 16, 16) float tensor"),
    ],
)
def test_a_network_that_is_none(
    users: str, function: str, kind: type[InputError], says: str
) -> None:
    with pytest.raises(kind) as caught:
        load_network(f"{users}:{function}", image=ImageSpec(16, 16))
    assert says in str(caught.value)
    assert function in str(caught.value)


@pytest.mark.parametrize("name", ["no_such_package:f", "users.nowhere:f", "edgekit:"])
def test_a_network_that_is_not_there(name: str) -> None:
    with pytest.raises(InputError) as caught:
        load_network(name)
    assert "package.module:function" in str(caught.value)


@pytest.mark.parametrize("name", ["mobilenet_v3", "squeezenet"])
def test_an_unknown_architecture_suggests_the_nearest(name: str) -> None:
    with pytest.raises(UnknownName, match="did you mean"):
        load_network(name, str(checkpoint.default()))


def test_an_architecture_without_weights_is_refused() -> None:
    with pytest.raises(InputError, match="without weights: give --weights"):
        load_network("squeezenet1_1")


def test_an_unknown_name_without_weights_is_unknown() -> None:
    with pytest.raises(UnknownName, match="did you mean 'mobilenet_v2'"):
        load_network("mobilenet_v22")


def test_a_checkpoint_and_weights_together_are_refused() -> None:
    with pytest.raises(InputError, match="is a checkpoint already"):
        load_network(checkpoint.default().stem, str(checkpoint.default()))


def test_labels(users: str, tmp_path: Path) -> None:
    image, path = ImageSpec(16, 16), tmp_path / "labels.txt"
    assert load_network(f"{users}:tiny", image=image).labels[0] == "class 0"
    path.write_text("a\nb\nc\nd\nchâteau\n", encoding="utf-8")
    found = load_network(f"{users}:tiny", labels=path, image=image)
    assert found.labels == ("a", "b", "c", "d", "château")
    path.write_text("a\nb\n")
    with pytest.raises(InputError, match="has 2 labels; the network has 5 classes"):
        load_network(f"{users}:tiny", labels=path, image=image)
    path.write_bytes(b"\xff\n")
    with pytest.raises(InputError, match="cannot read labels"):
        load_network(f"{users}:tiny", labels=path, image=image)
    with pytest.raises(InputError, match="cannot read labels"):
        load_network(f"{users}:tiny", labels=tmp_path / "none", image=image)


def test_arguments_that_the_architecture_does_not_take(tmp_path: Path) -> None:
    stored = checkpoint.read(checkpoint.default())
    assert stored.card is not None
    card = dataclasses.replace(stored.card, arguments={"widht": 1})
    checkpoint.write(tmp_path / "w.safetensors", stored.tensors, card)
    with pytest.raises(SpecError, match="widht"):
        load_network(str(tmp_path / "w.safetensors"))
