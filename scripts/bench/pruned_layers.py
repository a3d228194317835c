"""Which layers can lose weights: a checkpoint's top-1 after pruning, without training on.

    python -m scripts.bench.pruned_layers DATA [--checkpoint FILE] [--recipe FILE]

DATA are the images of the recipe, `recipes/zoo-tiny50.toml`. Prunes what `edgekit prune` takes,
then also what it leaves alone: depthwise filters, the first convolution; then all but the
classifier. Prints a table. Two minutes.
"""

import argparse
import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekit import checkpoint
from edgekit.learn.data import source
from edgekit.learn.evaluate import accuracy
from edgekit.learn.prune.masks import is_depthwise, mask, prunable
from edgekit.learn.prune.rank import largest
from edgekit.learn.recipe.read import read
from edgekit.lower.load import load_network

SPARSITIES = (0.5, 0.6, 0.7)


def choices(module: nn.Module) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """What is pruned: its name, and its weights."""
    layers = [
        (f"{n}.weight", m)
        for n, m in module.named_modules()
        if isinstance(m, nn.Conv2d | nn.Linear)
    ]
    usual = prunable(module)
    yield "as `edgekit prune`", usual
    yield "and depthwise", usual | {n: m.weight for n, m in layers if is_depthwise(m)}
    yield "and the first convolution", usual | {layers[0][0]: layers[0][1].weight}
    yield "but not the classifier", {n: w for n, w in usual.items() if n != layers[-1][0]}


def main() -> None:
    """Prune, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--checkpoint", default=checkpoint.default().stem)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/zoo-tiny50.toml"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    recipe = read(given.recipe)
    spec = replace(recipe.head.data, path=given.data, limit=len(recipe.classes))
    images = source.read(spec, recipe.classes).validation
    network = load_network(given.checkpoint)
    top1 = accuracy(network.module, images, network.image)
    print(f"{given.checkpoint}, dense: {top1:.1%} of {len(images)} images\n")
    print(
        "| ranked | what is pruned | weights | " + " | ".join(f"{s:.0%}" for s in SPARSITIES), "|"
    )
    print("|---|---|--:|" + "--:|" * len(SPARSITIES))
    for scope in ("global", "layer"):
        for name, weights in choices(network.module):
            count = sum(weight.numel() for weight in weights.values())
            cells = []
            for sparsity in SPARSITIES:
                module = copy.deepcopy(network.module)
                mask(module, largest(weights, 1 - sparsity, scope == "global", {}))
                cells.append(f"{accuracy(module, images, network.image):.1%}")
            print(f"| {scope} | {name} | {count:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
