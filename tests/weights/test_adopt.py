"""Importing: what comes out is the network's own state dict, with a card."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit import checkpoint, plugins
from edgekit.errors import CheckpointError, InputError, UnknownName
from edgekit.lower.load import load_network
from edgekit.lower.network import fold_batch_norm
from edgekit.spec import ImageSpec
from edgekit.weights.adopt import Origin, adopt

NAME = "squeezenet1_1"
SMALL = ImageSpec(64, 64)


def silent(text: str) -> None:
    pass


def built(name: str, **arguments: Any) -> nn.Module:
    torch.manual_seed(3)
    module: nn.Module = plugins.architecture(name)(**arguments).eval()
    for key, value in module.state_dict().items():
        if key.endswith(("running_mean", "bias")):
            nn.init.normal_(value, 0, 0.1)
        elif key.endswith("running_var"):
            nn.init.uniform_(value, 0.5, 1.5)
    return module


def answers(module: nn.Module) -> Tensor:
    torch.manual_seed(4)
    with torch.inference_mode():
        result: Tensor = module(torch.randn(2, 3, 64, 64))
        return result


def saved(module: nn.Module, path: Path) -> Path:
    torch.save({"state_dict": {f"module.{k}": v for k, v in module.state_dict().items()}}, path)
    return path


@pytest.mark.parametrize("folded", [False, True])
def test_a_network_comes_back_as_it_was(tmp_path: Path, folded: bool) -> None:
    module = built("mobilenet_v2", num_classes=3, width_mult=0.35)
    wanted = answers(module)
    if folded:
        fold_batch_norm(module)
    file = saved(module, tmp_path / "in.pth")
    origin = Origin("mobilenet_v2", image=SMALL, labels=("a", "b", "c"), license="MIT")
    out = adopt(file, origin, tmp_path / "out.safetensors", silent)

    stored = checkpoint.read(out)
    assert stored.card is not None
    assert stored.card.arguments == {"num_classes": 3, "width_mult": 0.35}
    assert (stored.card.labels, stored.card.license) == (("a", "b", "c"), "MIT")
    assert (stored.card.accuracy, stored.card.image) == (None, SMALL)
    assert f"imported from in.pth, sha256 {checkpoint.digest(file)}" in stored.card.trained_on
    kept = any(name.endswith("running_mean") for name in stored.tensors)
    assert kept is not folded, "so that an unfolded one can be trained on"
    network = load_network(str(out))
    torch.testing.assert_close(answers(network.module), wanted, rtol=1e-4, atol=1e-5)


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    file = saved(built(NAME, num_classes=3), tmp_path / "in.pth")
    for name in ("a", "b"):
        adopt(file, Origin(NAME), tmp_path / f"{name}.safetensors", silent)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda s: s.pop("features.3.squeeze.bias"),
            r"no tensor 'features.3.squeeze.bias' \(16,\)",
        ),
        (lambda s: s.update(more=torch.ones(2)), r"has a tensor 'more' \(2,\)"),
        (
            lambda s: s.update({"features.0.bias": torch.ones(2)}),
            r"tensor 'features.0.bias' is \(2,\), the network needs \(64,\)",
        ),
    ],
)
def test_the_first_tensor_that_differs_is_named(tmp_path: Path, change: Any, reason: str) -> None:
    state = built(NAME).state_dict()
    change(state)
    torch.save(state, tmp_path / "in.pth")
    with pytest.raises(CheckpointError, match=reason):
        adopt(tmp_path / "in.pth", Origin(NAME), tmp_path / "out.safetensors", silent)
    assert not (tmp_path / "out.safetensors").exists()


def test_a_backbone_without_its_head(tmp_path: Path) -> None:
    state = {k: v for k, v in built(NAME).state_dict().items() if k.startswith("features")}
    torch.save(state, tmp_path / "in.pth")
    said: list[str] = []
    origin = Origin(NAME, {"num_classes": 4}, accuracy=0.5, accuracy_images=10)
    out = tmp_path / "out.safetensors"
    with pytest.raises(
        CheckpointError, match=r"no tensor 'classifier.1.weight'.*other 2.*--partial"
    ):
        adopt(tmp_path / "in.pth", origin, out, silent)
    adopt(tmp_path / "in.pth", origin, out, said.append, partial=True)
    assert said[:2] == [
        "missing, initialised from seed 0: classifier.1.weight (4, 512, 1, 1)",
        "missing, initialised from seed 0: classifier.1.bias (4,)",
    ]
    stored = checkpoint.read(out)
    assert stored.card is not None
    assert stored.card.trained_on.endswith("not trained, initialised from seed 0: classifier.1")
    assert stored.card.accuracy is None, "that was another network's"
    np.testing.assert_array_equal(stored.tensors["features.0.weight"], state["features.0.weight"])


def test_partial_is_no_pass_for_another_network(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.ones(2)}, tmp_path / "in.pth")
    with pytest.raises(CheckpointError, match="no tensor of the network's"):
        adopt(tmp_path / "in.pth", Origin(NAME), tmp_path / "o.safetensors", silent, partial=True)


def test_names_of_another_code_base(tmp_path: Path) -> None:
    """timm's MobileOne; the script beside the peers proves all of them on timm's own networks."""
    module = built("mobileone_s0", num_classes=3)
    names = {
        "stage0.": "stem.",
        **{f"stage{i + 1}.": f"stages.{i}." for i in range(4)},
        "rbr_skip.": "identity.",
        "rbr_scale.": "conv_scale.",
        "rbr_conv.": "conv_kxk.",
        "linear.": "head.fc.",
    }
    state = {}
    for name, value in module.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        state[name] = value
    torch.save(state, tmp_path / "in.pth")
    said: list[str] = []
    out = adopt(
        tmp_path / "in.pth", Origin("mobileone_s0"), tmp_path / "o.safetensors", said.append
    )
    assert said[0] == "its names are those of timm"
    found = checkpoint.read(out).tensors
    for name, value in module.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(found[name], value.numpy())


def test_the_shared_backbone_of_shufflenet(shared: Path, tmp_path: Path) -> None:
    """The authors' names and channel order, converted by the architecture's own file."""
    file = shared / "weights" / "shufflenet_v2_x0_5_backbone.safetensors"
    origin = Origin("shufflenet_v2_x0_5", {"num_classes": 50}, image=SMALL)
    said: list[str] = []
    out = adopt(file, origin, tmp_path / "out.safetensors", said.append, partial=True)
    missing = {line.partition(": ")[2].partition(".")[0] for line in said if "missing" in line}
    assert missing == {"conv5", "fc"}
    assert load_network(str(out)).classes == 50


@pytest.mark.parametrize(
    ("file", "name", "classes"),
    [
        ("mobilenet_v2_imagenet", "mobilenet_v2", 1000),
        ("squeezenet1_1_imagenet", "squeezenet1_1", 1000),
        ("teachers/cifar10_resnet20", "cifar_resnet20", 10),
        ("teachers/cifar10_resnet56", "cifar_resnet56", 10),
    ],
)
def test_the_shared_weights(
    shared: Path, tmp_path: Path, file: str, name: str, classes: int
) -> None:
    path = shared / "weights" / f"{file}.safetensors"
    out = adopt(path, Origin(name, image=SMALL), tmp_path / "out.safetensors", silent)
    assert load_network(str(out)).classes == classes


def test_what_may_be_written(tmp_path: Path) -> None:
    file = saved(built(NAME, num_classes=3), tmp_path / "in.pth")
    out = tmp_path / "out.safetensors"
    with pytest.raises(CheckpointError, match="not the name of a .safetensors file"):
        adopt(file, Origin(NAME), tmp_path / "out.pth", silent)
    adopt(file, Origin(NAME), out, silent)
    with pytest.raises(InputError, match="exists; .*--force"):
        adopt(file, Origin(NAME), out, silent)
    adopt(file, Origin(NAME), out, silent, force=True)
    out.unlink()
    with pytest.raises(InputError, match=r"out.json exists"):
        adopt(file, Origin(NAME), out, silent)
    adopt(file, Origin(NAME), out, silent, force=True)
    with pytest.raises(InputError, match="the file that is to be imported"):
        adopt(out, Origin(NAME), out, silent, force=True)


def test_an_unknown_architecture_and_wrong_labels(tmp_path: Path) -> None:
    file = saved(built(NAME, num_classes=3), tmp_path / "in.pth")
    with pytest.raises(UnknownName, match="did you mean 'squeezenet1_1'"):
        adopt(file, Origin("squeezenet1_2"), tmp_path / "out.safetensors", silent)
    (tmp_path / "labels.txt").write_text("a\nb\n")
    with pytest.raises(InputError, match="2 labels; the network has 3 classes"):
        adopt(file, Origin(NAME), tmp_path / "o.safetensors", silent, tmp_path / "labels.txt")
