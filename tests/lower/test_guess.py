"""Arguments read off shapes, for every architecture that there is."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from edgekit import plugins
from edgekit.lower.guess import guess_arguments
from edgekit.lower.network import Argument, fold_batch_norm


def state(name: str, arguments: Mapping[str, Argument], folded: bool = False) -> dict[str, Tensor]:
    """Shapes alone, without counters."""
    with torch.device("meta"):
        module = plugins.architecture(name)(**arguments).eval()
        tensors = (fold_batch_norm(module) if folded else module).state_dict()
    return {k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("name", plugins.architectures())
def test_the_class_count_of_every_architecture(name: str, folded: bool) -> None:
    tensors = state(name, {"num_classes": 7}, folded)
    assert guess_arguments(name, tensors) == {"num_classes": 7}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mobilenet_v2", {"width_mult": 0.35}),
        ("mobilenet_v2", {"width_mult": 1.4}),
        ("mobilenet_v1", {"width_mult": 0.25}),
        ("mobilenet_v3_large", {"width_mult": 0.75}),
        ("mobilenet_v3_small", {"minimalistic": True}),
        ("shufflenet_v1", {"groups": 8, "scale": 0.5}),
        ("shufflenet_v1", {"scale": 2.0}),
    ],
)
def test_published_variants(name: str, arguments: dict[str, Argument]) -> None:
    tensors = state(name, {"num_classes": 5, **arguments})
    assert guess_arguments(name, tensors) == {"num_classes": 5, **arguments}


def test_a_backbone_tells_its_width() -> None:
    whole = state("mobilenet_v2", {"width_mult": 0.5})
    tensors = {key: value for key, value in whole.items() if key.startswith("features")}
    given: dict[str, Argument] = {"num_classes": 3}
    assert guess_arguments("mobilenet_v2", tensors, given) == {"num_classes": 3, "width_mult": 0.5}


def test_what_the_user_says_is_not_doubted() -> None:
    tensors = state("mobilenet_v2", {"num_classes": 5})
    assert guess_arguments("mobilenet_v2", tensors, {"num_classes": 9}) == {"num_classes": 9}


def test_where_nothing_fits_the_class_count_is_told() -> None:
    tensors = {**state("mobilenet_v2", {"num_classes": 5}), "odd": torch.zeros(1)}
    assert guess_arguments("mobilenet_v2", tensors) == {"num_classes": 5}
    assert guess_arguments("mobilenet_v2", {"odd": torch.zeros(1)}, {"nonsense": 1}) == {
        "nonsense": 1
    }
