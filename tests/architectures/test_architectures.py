"""Conformance over every network that `edgekit.plugins` lists: a new one is tested by existing."""

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgekit import plugins

NAMES = plugins.architectures()

# From the papers' reference implementations (torchvision's published counts), 1000 classes.
PARAMETERS = {"mobilenet_v2": 3_504_872, "squeezenet1_0": 1_248_424, "squeezenet1_1": 1_235_496}

# A few of torchvision's state-dict names, first, middle and last, with their shapes.
TORCHVISION = {
    "mobilenet_v2": {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.2.conv.1.0.weight": (96, 1, 3, 3),
        "features.7.conv.3.running_mean": (64,),
        "features.18.1.running_var": (1280,),
        "classifier.1.weight": (1000, 1280),
    },
    "squeezenet1_0": {
        "features.0.weight": (96, 3, 7, 7),
        "features.5.expand3x3.weight": (128, 32, 3, 3),
        "features.12.squeeze.bias": (64,),
        "classifier.1.weight": (1000, 512, 1, 1),
    },
    "squeezenet1_1": {
        "features.0.weight": (64, 3, 3, 3),
        "features.3.squeeze.weight": (16, 64, 1, 1),
        "features.12.expand1x1.bias": (256,),
        "classifier.1.bias": (1000,),
    },
}


def build(name: str, **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    module = plugins.architecture(name)(**arguments)
    assert isinstance(module, nn.Module)
    return module.eval()


def test_the_three_first_networks_are_listed() -> None:
    assert set(PARAMETERS) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("size", "classes"), [(224, 1000), (96, 7)])
def test_logits_have_one_column_a_class(name: str, size: int, classes: int) -> None:
    module = build(name, num_classes=classes)
    with torch.inference_mode():
        logits = module(torch.rand(2, 3, size, size))
    assert logits.shape == (2, classes)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", NAMES)
def test_inference_is_deterministic_and_independent_of_the_batch(name: str) -> None:
    module = build(name, num_classes=5)
    images = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        both, again, second = module(images), module(images), module(images[1:])
    assert torch.equal(both, again)
    torch.testing.assert_close(both[1:], second)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name: str) -> None:
    module = build(name, num_classes=3).train()
    module(torch.rand(2, 3, 96, 96)).square().sum().backward()
    assert [key for key, value in module.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    assert sum(p.numel() for p in build(name).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", sorted(TORCHVISION))
def test_state_dict_names_are_torchvisions(name: str) -> None:
    state = build(name).state_dict()
    assert {key: tuple(state[key].shape) for key in TORCHVISION[name]} == TORCHVISION[name]


def test_width_and_stem_of_mobilenet_v2() -> None:
    module = build("mobilenet_v2", num_classes=50, width_mult=0.5, stem_stride=1)
    state = module.state_dict()
    assert state["features.0.0.weight"].shape[0] == 16
    assert state["features.18.0.weight"].shape[0] == 1280  # the last layer does not shrink
    with torch.inference_mode():
        features = module.get_submodule("features")(torch.rand(1, 3, 64, 64))
    assert features.shape == (1, 1280, 4, 4)


@pytest.mark.parametrize("name", NAMES)
def test_its_file_is_headed_by_the_paper_and_imports_only_torch(name: str) -> None:
    tree = ast.parse(plugins.architecture_file(name).read_text(encoding="utf-8"))
    header = ast.get_docstring(tree) or ""
    assert "Paper: https://" in header
    assert "Original code: https://" in header
    imported = {
        alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    imported |= {
        (node.module or "").split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
    }
    assert imported <= {"torch", "collections", "dataclasses", "functools", "math", "typing"}


def test_every_file_states_its_builders(root: Path) -> None:
    for path in sorted((root / "architectures").glob("[!_]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        stated = [
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            and [getattr(target, "id", "") for target in node.targets] == ["__all__"]
        ]
        assert len(stated) == 1, f"{path.name} states __all__ once, as a literal"
        assert stated[0], f"{path.name} names a builder"
        assert set(stated[0]) <= functions & set(NAMES)
