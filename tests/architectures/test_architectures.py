"""Conformance over every network that `edgekit.plugins` lists: a new one is tested by existing."""

import ast
import inspect
from copy import deepcopy
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekit import plugins

NAMES = plugins.architectures()
FAMILIES = sorted({plugins.architecture_file(name) for name in NAMES})
SIZES = [(32, 32), (160, 128), (65, 97)]  # other tests run 64x64 and 96x64
FREE = {"torch", "collections", "dataclasses", "functools", "math", "typing"}

# These have a hidden layer after the pooling that stays without a classifier, as timm has it.
HIDDEN = {"ghostnet_050", "ghostnet_100", "ghostnet_130", "mobilenetv4_conv_small"}

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.fixture
def seeded() -> None:
    torch.manual_seed(0)


@cache
def seven(name: str) -> nn.Module:
    """Of seven classes, as it is initialised, in eval mode; for all tests that leave it so."""
    torch.manual_seed(0)
    module = plugins.architecture(name)(num_classes=7)
    assert isinstance(module, nn.Module)
    return module.eval()


def shaped(name: str, **arguments: Any) -> nn.Module:
    """On the meta device, where forward gives shapes, and takes no time."""
    with torch.device("meta"):
        module: nn.Module = plugins.architecture(name)(**arguments)
    return module.eval()


def run(module: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        found: Tensor = module(images)
    return found


def feature_maps(module: Any, images: Tensor) -> tuple[Tensor, ...]:
    with torch.inference_mode():
        maps: tuple[Tensor, ...] = module.feature_maps(images)
    return maps


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_any_size_gives_one_column_a_class(name: str, height: int, width: int) -> None:
    logits = run(seven(name), torch.rand(1, 3, height, width))
    assert logits.shape == (1, 7)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", NAMES)
def test_inference_is_repeatable_batch_free_and_changes_nothing(name: str) -> None:
    module = seven(name)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    images = torch.rand(3, 3, 64, 64)
    three, again, last = run(module, images), run(module, images), run(module, images[2:])
    assert torch.equal(three, again)
    torch.testing.assert_close(three[2:], last, rtol=0, atol=1e-4 * float(three.abs().max()))
    after = module.state_dict()
    assert [key for key, value in before.items() if not torch.equal(value, after[key])] == []


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name: str) -> None:
    module = deepcopy(seven(name)).train()
    module(torch.rand(2, 3, 64, 64)).square().sum().backward()
    assert [key for key, value in module.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_channels_enters(name: str) -> None:
    for channels in (1, 6):
        module = shaped(name, num_classes=3, in_channels=channels)
        assert module(torch.empty(2, channels, 64, 64, device="meta")).shape == (2, 3)


@pytest.mark.parametrize("name", NAMES)
def test_feature_maps_are_finest_first_and_the_last_is_pooled(name: str) -> None:
    module = shaped(name, num_classes=0)
    state = seven(name).state_dict()
    assert set(module.state_dict()) < set(state)
    module.load_state_dict({key: state[key] for key in module.state_dict()}, assign=True)
    images = torch.rand(2, 3, 96, 64)
    maps = feature_maps(module, images)
    sides = [tuple(m.shape[-2:]) for m in maps]
    assert len(sides) >= 3
    assert all(h < H and w < W for (H, W), (h, w) in pairwise(sides)), sides
    assert {m.shape[0] for m in maps} == {2}
    features, pooled = run(module, images), maps[-1].mean(dim=(2, 3))
    if name in HIDDEN:
        assert features.shape == (2, 1280)
    else:
        torch.testing.assert_close(features, pooled)


@pytest.mark.parametrize("name", NAMES)
def test_a_builder_begins_with_classes_and_channels(name: str) -> None:
    signature = inspect.signature(plugins.architecture(name))
    assert list(signature.parameters)[:2] == ["num_classes", "in_channels"]
    for key, parameter in signature.parameters.items():
        assert parameter.default is not inspect.Parameter.empty, f"{key} has no default"
        assert parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    defaults = [signature.parameters[key].default for key in ("num_classes", "in_channels")]
    assert defaults == ([10, 3] if name.startswith("cifar") else [1000, 3])
    assert ("stem_stride" in signature.parameters) != name.startswith("cifar")


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("cifar")])
def test_a_stem_without_stride_keeps_the_resolution(name: str) -> None:
    images = torch.empty(1, 3, 64, 64, device="meta")
    usual, kept = (shaped(name, num_classes=0, stem_stride=stride) for stride in (2, 1))
    coarse, fine = (feature_maps(m, images)[-1].shape[-1] for m in (usual, kept))
    assert fine >= 2 * coarse - 1  # a pool that rounds up may give one less than twice
    assert fine > coarse


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_exports_without_a_trace_of_training(name: str) -> None:
    images = torch.rand(1, 3, 64, 64)
    program = torch.export.export(seven(name), (images,))
    torch.testing.assert_close(run(program.module(), images), run(seven(name), images))
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not [op for op in called if "bernoulli" in op or "sym_" in op]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_batch_is_not_baked_into_the_exported_graph(name: str) -> None:
    module, batch = seven(name), torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(module, (torch.rand(3, 3, 64, 64),), dynamic_shapes=({0: batch},))
    images = torch.rand(5, 3, 64, 64)
    torch.testing.assert_close(run(program.module(), images), run(module, images))


@pytest.mark.parametrize("path", FAMILIES, ids=[path.stem for path in FAMILIES])
def test_its_file_is_headed_by_the_paper_and_imports_only_torch(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    header = ast.get_docstring(tree) or ""
    assert "Paper: https://" in header
    assert "Original code: https://" in header
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    beside = {module for module in imported if module.startswith("architectures._")}
    assert {module.split(".")[0] for module in imported - beside} <= FREE


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
