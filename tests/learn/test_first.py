"""The weights that a recipe begins with."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from edgekit.learn import chain
from edgekit.learn.data.source import Data
from edgekit.learn.first import first_network
from edgekit.learn.recipe.recipe import Recipe
from edgekit.lower.load import build_network
from edgekit.lower.network import fold_batch_norm, has_batch_norm
from tests.learn.conftest import Silent

LAST = "classifier.1.weight"


FIRST = "features.0.0.weight"
Tensors = dict[str, np.ndarray]
Begin = Callable[..., tuple[Tensors, Tensors]]


@pytest.fixture
def begin(recipe: Recipe, data: Data, tmp_path: Path) -> Begin:
    """Begins with the weights of a network of so many outputs; the classes have these indices.

    Gives what the network has then, and what was stored.
    """

    def run(outputs: int, *imagenet: int) -> tuple[Tensors, Tensors]:
        torch.manual_seed(5)
        arguments = {**recipe.head.model.arguments, "num_classes": outputs}
        stored = build_network("mobilenet_v2", arguments).state_dict()
        tensors = {name: value.numpy() for name, value in stored.items()}
        save_file(tensors, tmp_path / "stored.safetensors")
        model = replace(recipe.head.model, weights=str(tmp_path / "stored.safetensors"))
        changed = replace(recipe, head=replace(recipe.head, model=model))
        classes = tuple(
            replace(spec, imagenet=n) for spec, n in zip(data.classes, imagenet, strict=True)
        )
        begun = first_network(changed, replace(data, classes=classes)).state_dict()
        return {name: value.numpy() for name, value in begun.items()}, tensors

    return run


def test_the_classes_rows_are_kept_of_imagenets_thousand(begin: Begin) -> None:
    found, stored = begin(1000, 7, 999, 0)
    np.testing.assert_array_equal(found[LAST], stored[LAST][[7, 999, 0]])
    np.testing.assert_array_equal(found[FIRST], stored[FIRST])


@pytest.mark.parametrize(("outputs", "imagenet"), [(1000, (7, -1, 0)), (12, (7, 9, 0))])
def test_a_last_layer_of_other_classes_is_left_out(
    begin: Begin, outputs: int, imagenet: tuple[int, ...]
) -> None:
    found, stored = begin(outputs, *imagenet)
    assert len(found[LAST]) == 3
    assert not any((row == stored[LAST]).all(1).any() for row in found[LAST])
    np.testing.assert_array_equal(found[FIRST], stored[FIRST])


def test_the_last_layer_is_kept_by_its_labels(
    recipe: Recipe, data: Data, watch: Silent, tmp_path: Path
) -> None:
    done = chain.run(recipe, tmp_path, watch, recipe.steps)[0]
    model = replace(recipe.head.model, weights=str(done.path))
    changed = replace(recipe, head=replace(recipe.head, model=model))
    turned = replace(data, classes=data.classes[::-1])
    found = first_network(changed, turned).state_dict()[LAST]
    assert torch.equal(found, done.student.module.state_dict()[LAST].flip(0))


@pytest.mark.parametrize("kind", ["restore", "folded"])
def test_folded_weights_begin_with_batch_norm_or_without(
    recipe: Recipe, data: Data, watch: Silent, tmp_path: Path, kind: Literal["restore", "folded"]
) -> None:
    done = chain.run(recipe, tmp_path, watch, recipe.steps)[0]
    folded = fold_batch_norm(copy.deepcopy(done.student.module))
    stored = tmp_path / "folded.safetensors"
    save_file({n: v.contiguous().numpy() for n, v in folded.state_dict().items()}, stored)
    model = replace(recipe.head.model, weights=str(stored), batch_norm=kind)
    labelled = replace(data, classes=tuple(replace(c, label=c.folder) for c in data.classes))
    found = first_network(replace(recipe, head=replace(recipe.head, model=model)), labelled)
    assert has_batch_norm(found) == (kind == "restore")
    last = dict(found.named_modules())["classifier.1"]
    assert isinstance(last, nn.Linear)
    last.load_state_dict(folded.get_submodule("classifier.1").state_dict())  # new in `found`
    inputs = torch.randn(4, 3, 24, 24)
    with torch.inference_mode():
        torch.testing.assert_close(found(inputs), folded(inputs), rtol=1e-3, atol=1e-4)
