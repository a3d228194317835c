"""The ladder of a recipe's run: what each step made of accuracy, size, MACs and latency."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit import bundle, checkpoint
from edgekit.bundle import Bundle
from edgekit.checkpoint import Made
from edgekit.device.describe import model_bytes
from edgekit.device.measure import bench
from edgekit.device.measure.bench import Measurement
from edgekit.device.session import open_session
from edgekit.errors import InputError
from edgekit.learn.bundles import build_bundle
from edgekit.learn.chain import step_folder
from edgekit.learn.data import source
from edgekit.learn.data.source import Images
from edgekit.learn.recipe.recipe import Recipe
from edgekit.learn.recipe.steps import BuildStep
from edgekit.lower.gate.packaged import answers
from edgekit.lower.prepare import Say

BATCH = 100
"""Images whose logits are held at once."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One step's checkpoint in one precision, as the target's bundle."""

    step: str
    kind: str
    precision: str
    checkpoint_top1: float
    """Of the network in PyTorch, as its card says, in [0, 1]; int8's after `quantize`."""
    top1: float
    """Of the bundle, in [0, 1], on the same images."""
    images: int
    macs: int
    parameters: int
    """Those that are not zero."""
    model_bytes: int
    latency: Measurement


@dataclass(frozen=True, slots=True)
class Ladder:
    """All rungs of a run, in the order of its steps."""

    recipe: str
    target: str
    backend: str
    threads: int
    rungs: tuple[Rung, ...]


def ladder(
    recipe: Recipe, out: Path, target: str, precisions: Sequence[str], runs: int, say: Say
) -> Ladder:
    """Build a bundle of each step's checkpoint, and measure all of them side by side.

    Bundles are kept in `out/ladder`, and built anew where the checkpoint has changed.

    Args:
        recipe: what was run.
        out: where it was run.
        target: the device family to build for.
        precisions: each checkpoint is built in each.
        runs: timed runs of each bundle.
        say: told what is being done, a line at a time.

    Raises:
        InputError: a step has not been run there; the recipe trains nothing.
        EdgekitError: a build is refused.
    """
    steps = _made(recipe, out)
    data = source.read(recipe.head.data, recipe.classes)
    bundles = []
    for number, (made, path) in enumerate(steps, 1):
        for precision in precisions:
            place = out / "ladder" / f"{number}-{made.step}-{target}-{precision}"
            say(f"building {place}")
            build_bundle(path, place, target, "", precision, data.train, say)
            bundles.append((made, place))
    say(f"timing {len(bundles)} bundles, {runs} runs each, in turns")
    speeds = bench.measure([place for _, place in bundles], runs=runs)
    say(f"asking each about {len(data.validation)} images")
    rungs = tuple(
        _rung(made, place, speed, data.validation)
        for (made, place), speed in zip(bundles, speeds, strict=True)
    )
    first = speeds[0].loaded
    return Ladder(recipe.head.name, target, first.backend, first.threads, rungs)


def _made(recipe: Recipe, out: Path) -> list[tuple[Made, Path]]:
    """What each step has left: the last entry of its card's history, and its weights file."""
    found = []
    for number, step in enumerate(recipe.steps, 1):
        if isinstance(step, BuildStep):
            continue
        path = step_folder(out, number, step) / f"{recipe.head.name}.safetensors"
        if not path.exists():
            raise InputError(
                f"step {number} ('{step.name}') has left no {path}; run "
                f"'edgekit {step.kind} RECIPE -o {out}' first"
            )
        card = checkpoint.read(path).card
        if card is None or not card.history:
            raise InputError(f"{path} has no card that tells its history; run the step anew")
        found.append((card.history[-1], path))
    if not found:
        raise InputError(f"the recipe '{recipe.head.name}' has no step that leaves a checkpoint")
    return found


def _rung(made: Made, place: Path, speed: Measurement, images: Images) -> Rung:
    read = bundle.read(place)
    return Rung(
        step=made.step,
        kind=made.kind,
        precision=read.manifest.precision,
        checkpoint_top1=made.accuracy or 0.0,
        top1=_top1(read, images),
        images=len(images),
        macs=made.macs,
        parameters=made.parameters,
        model_bytes=model_bytes(read),
        latency=speed,
    )


def _top1(read: Bundle, images: Images) -> float:
    right = 0
    with closing(open_session(read)) as session:
        for start in range(0, len(images), BATCH):
            frames = [images.pixels[i] for i in range(start, min(start + BATCH, len(images)))]
            found = answers(session, frames, read.manifest.image).argmax(1)
            right += int(np.count_nonzero(found == images.targets[start : start + BATCH]))
    return right / len(images)
