"""The lottery ticket against its masks on new random weights, over several seeds.

    python scripts/bench/lottery.py DATA [-o build/lottery] [--seeds 1 2 3] [--recipe FILE]
        [--controls reinitialise shuffle]

DATA is `cifar10_jpeg.zip.xz`. Runs the step of `recipes/lottery-cifar.toml` for each seed, in four
rounds to 80 % sparsity and two more to 90 %, and a training of each control at both. What is done
is not done again, and an interrupted run goes on. Prints a table, anew after each seed. An hour on
a core.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from edgekit.learn.data import source
from edgekit.learn.evaluate import accuracy
from edgekit.learn.first import first_network
from edgekit.learn.prune.lottery import control
from edgekit.learn.prune.masks import sparsity
from edgekit.learn.prune.rank import equal_shares
from edgekit.learn.prune.weights import Rounds, begin, trained
from edgekit.learn.recipe.read import read
from edgekit.learn.recipe.recipe import Recipe, seeded
from edgekit.learn.recipe.steps import PruneStep
from edgekit.learn.train.place import HERE
from edgekit.learn.work import Student, Work

RECIPE = Path(__file__).parents[2] / "recipes" / "lottery-cifar.toml"
LEFT = (*equal_shares(0.8, 4), *(0.2 * share for share in equal_shares(0.5, 2)))
"""Four rounds to 80 %, two more to 90 %."""
MEASURED = (4, 6)
"""Rounds whose masks the controls have."""
CONTROLS = ("reinitialise", "shuffle")


class Log:
    """Lines with the time, to stderr."""

    def step(self, task: str, done: int, total: int, note: str = "") -> None:
        """Too many to tell."""

    def line(self, text: str) -> None:
        print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def measured(
    recipe: Recipe, data: source.Data, out: Path, controls: Sequence[str]
) -> Iterator[tuple[str, float]]:
    """What is trained, and its top-1 on the validation images in float32."""
    head = recipe.head
    work = Work(recipe, data, HERE, Log(), out / f"seed-{head.seed}")
    (step,) = recipe.steps
    assert isinstance(step, PruneStep)
    rounds = Rounds(step, work, Student(first_network(recipe, data)), LEFT)
    for number in range(len(LEFT) + 1):
        name = f"ticket {sparsity(begin(rounds, number).masks):.1%}" if number else "dense"
        yield name, accuracy(trained(rounds, number), data.validation, head.image)
    for kind in controls:
        how = replace(step, reinitialise=kind == "reinitialise", shuffle=kind == "shuffle")
        for number in MEASURED:
            name = f"{kind} {sparsity(begin(rounds, number).masks):.1%}"
            module = control(replace(rounds, step=how), number)
            yield name, accuracy(module, data.validation, head.image)


def table(found: dict[str, list[float]], seeds: Sequence[int]) -> str:
    """Markdown: mean and standard deviation over the seeds, in percent."""
    lines = [f"| network | top-1, mean ± deviation of seeds {seeds} | each |", "|---|--:|---|"]
    for name, values in found.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        each = ", ".join(f"{value:.1%}" for value in values)
        lines.append(
            f"| {name} | {100 * statistics.mean(values):.1f} ± {100 * spread:.1f} | {each} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Train all, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("-o", "--out", type=Path, default=Path("build/lottery"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--controls", nargs="*", choices=CONTROLS, default=list(CONTROLS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    recipe = read(given.recipe)
    spec = replace(recipe.head.data, path=given.data)
    recipe = replace(recipe, head=replace(recipe.head, data=spec))
    data = source.read(spec, ())
    found: dict[str, list[float]] = {}
    for done, seed in enumerate(given.seeds, 1):
        for name, top1 in measured(seeded(recipe, seed), data, given.out, given.controls):
            found.setdefault(name, []).append(top1)
            Log().line(f"seed {seed}: {name}: {top1:.4f}")
        print(table(found, given.seeds[:done]), flush=True)


if __name__ == "__main__":
    main()
