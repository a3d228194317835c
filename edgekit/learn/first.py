"""What a recipe's network begins with: random weights, or stored ones that fit."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from edgekit import checkpoint
from edgekit.checkpoint import Checkpoint
from edgekit.learn.data.source import Data
from edgekit.learn.distil.choice import IMAGENET
from edgekit.learn.evaluate import contract_inputs
from edgekit.learn.recipe.data import ClassSpec
from edgekit.learn.recipe.recipe import Recipe
from edgekit.learn.unfold import unfold
from edgekit.lower.load import build_network, user_network
from edgekit.lower.network import are_folded, fold_batch_norm, has_batch_norm
from edgekit.lower.widths import Widths, apply_widths
from edgekit.plugins import architectures
from edgekit.spec import ImageSpec

SETTLED_ON = 512
"""Training images that batch norm's statistics are found on, where it was stored folded."""
BATCH = 64


def first_network(recipe: Recipe, data: Data) -> nn.Module:
    """The network with the weights that the recipe begins with.

    Raises:
        UnknownName, SpecError, InputError: no such network, or arguments that it does not take.
        CheckpointError: weights that do not fit it.
    """
    module = built(recipe, data.classes)
    choice = recipe.head.model
    if not choice.weights:
        return module
    stored = checkpoint.read(checkpoint.resolve(choice.weights))
    if not (are_folded(stored.tensors) and has_batch_norm(module)):
        return _adopt(module, stored, data.classes)
    folded = _adopt(fold_batch_norm(module), stored, data.classes)
    if choice.batch_norm == "folded":
        return folded
    return unfold(built(recipe, data.classes), folded, _some_inputs(data, recipe.head.image))


def built(recipe: Recipe, classes: Sequence[ClassSpec]) -> nn.Module:
    """The network with random weights of the recipe's seed; as narrow as the first weights are."""
    choice = recipe.head.model
    arguments = {**choice.arguments, "num_classes": len(classes)}
    torch.manual_seed(recipe.head.seed)
    if choice.architecture in architectures() or ":" not in choice.architecture:
        module = build_network(choice.architecture, arguments)
    else:
        module = user_network(choice.architecture, arguments)
    apply_widths(module, first_widths(recipe))
    return module


def first_widths(recipe: Recipe) -> Widths:
    """Where the network is narrower than its architecture builds it: of weights that are pruned."""
    weights = recipe.head.model.weights
    card = checkpoint.read_card(checkpoint.resolve(weights)) if weights else None
    return card.widths if card else {}


def _some_inputs(data: Data, image: ImageSpec) -> Iterator[Tensor]:
    """Training images through the image contract, evenly spread over the classes, normalised."""
    few = data.train.spread(SETTLED_ON)
    for start in range(0, len(few), BATCH):
        pixels = [data.train.pixels[i] for i in few[start : start + BATCH]]
        yield contract_inputs(pixels, image)


def _adopt(module: nn.Module, stored: Checkpoint, classes: Sequence[ClassSpec]) -> nn.Module:
    """Load what fits by name and shape; what does not may only be the last layer.

    Of the last layer, the classes' own outputs are kept, where they are known, see `_outputs`.
    """
    wanted = module.state_dict()
    last = next(reversed([n for n in wanted if n.endswith(".weight")])).rpartition(".")[0]
    known = _outputs(stored, f"{last}.weight", classes)
    found = {}
    for name, value in stored.tensors.items():
        if not name.startswith(f"{last}."):
            found[name] = value
        elif known is not None:
            found[name] = value[known]
    expected = {
        n: tuple(v.shape)
        for n, v in wanted.items()
        if (known is not None or not n.startswith(f"{last}."))
        and not n.endswith("num_batches_tracked")
    }
    found = {n: v for n, v in found.items() if not n.endswith("num_batches_tracked")}
    checkpoint.check(expected, found, str(stored.path))
    module.load_state_dict({n: torch.from_numpy(v.copy()) for n, v in found.items()}, strict=False)
    return module.eval()


def _outputs(stored: Checkpoint, last: str, classes: Sequence[ClassSpec]) -> list[int] | None:
    """Which of the stored outputs the classes are: by the card's labels, or in ImageNet's 1,000."""
    labels = stored.card.labels if stored.card else ()
    if all(labels.count(spec.label) == 1 for spec in classes):
        return [labels.index(spec.label) for spec in classes]
    count = len(stored.tensors.get(last, ()))
    if count == IMAGENET and all(0 <= spec.imagenet < count for spec in classes):
        return [spec.imagenet for spec in classes]
    return None
