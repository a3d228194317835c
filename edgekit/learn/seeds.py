"""A recipe with several seeds: what is luck, and what is not."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import InputError
from edgekit.learn.chain import Done, run
from edgekit.learn.recipe.recipe import Recipe, seeded
from edgekit.learn.recipe.steps import BuildStep, Step
from edgekit.learn.train.place import HERE, Place
from edgekit.learn.watch import Watch


@dataclass(frozen=True, slots=True)
class Spread:
    """One step, with each of the seeds."""

    step: str
    top1: tuple[float, ...]
    """In [0, 1], in the order of the seeds."""

    @property
    def mean(self) -> float:
        return statistics.fmean(self.top1)

    @property
    def deviation(self) -> float:
        """Of the sample (n - 1); NaN of a single seed."""
        return statistics.stdev(self.top1) if len(self.top1) > 1 else float("nan")


@dataclass(frozen=True, slots=True)
class Repeated:
    """A recipe run with several seeds."""

    seeds: tuple[int, ...]
    spreads: tuple[Spread, ...]
    """One a step that is measured."""
    last: tuple[Path, ...]
    """What the last step left, one a seed."""


def repeat(
    recipe: Recipe, count: int, out: Path, watch: Watch, steps: Sequence[Step], place: Place = HERE
) -> Repeated:
    """Run `steps` with `count` seeds, from the recipe's own on, in `out/seed-K`.

    What was done is not done again, as in `chain.run`, so more seeds can be added later.

    Raises:
        InputError: `count` is below 1; and what `chain.run` raises.
    """
    if count < 1:
        raise InputError(f"--seeds must be at least 1, got {count}")
    seeds = tuple(range(recipe.head.seed, recipe.head.seed + count))
    runs: list[list[Done]] = []
    for n, seed in enumerate(seeds, 1):
        watch.line(f"seed {seed} ({n} of {count})")
        runs.append(run(seeded(recipe, seed), out / f"seed-{seed}", watch, steps, place))
    spreads = tuple(
        Spread(steps[n].name, tuple(_top1(each[n]) for each in runs))
        for n in range(len(steps))
        if not isinstance(steps[n], BuildStep)
    )
    return Repeated(seeds, spreads, tuple(each[-1].path for each in runs))


def _top1(done: Done) -> float:
    found = done.student.history[-1].accuracy
    assert found is not None
    return found
