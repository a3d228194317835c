"""Bundles side by side in one run: size, accuracy, agreement, latency, memory.

Latency first, in turns (see `bench`); then every image through every bundle before the next one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from edgekit import bundle
from edgekit.device.describe import model_bytes
from edgekit.device.measure import bench, labelled
from edgekit.device.measure.interval import wilson
from edgekit.device.measure.labelled import Labelled
from edgekit.device.measure.worker import Loaded, Worker
from edgekit.errors import EdgekitError, InputError, MissingPackage

LEVELS = 256
"""The most different values that int8 logits can have."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Share:
    """A share of the images, with its 95 % score interval; all in [0, 1]."""

    share: float
    low: float
    high: float
    images: int


@dataclass(frozen=True, slots=True)
class Row:
    """One bundle."""

    bundle: str
    target: str
    backend: str
    precision: str
    model_bytes: int
    refused: str
    """Why it did not run here; empty if it did."""
    speed: bench.Measurement | None
    top1: Share | None
    """On the labelled images; None without labels."""
    agreement: Share | None
    """Same top-1 as the reference; None without images."""
    step: float | None
    """Logits between two neighbouring integers; None where the logits are floats."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two bundles on the same images."""

    first: str
    second: str
    top1_agreement: Share
    max_abs_difference: float
    """Of one logit."""
    steps: float | None
    """The same in quantisation steps, the coarser of the two; None if one has floats."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The whole table."""

    reference: str
    """The bundle that `agreement` is with: the first fp32 one that runs, or the first one."""
    images: int
    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class _Ran:
    """What a bundle that runs gave."""

    speed: bench.Measurement
    answers: np.ndarray | None
    """(N, classes) logits; None without images."""


def compare(
    bundles: Sequence[Path],
    images: Path | None,
    labels: Path | None,
    runs: int,
    warmup: int,
    say: Say,
) -> Comparison:
    """Run `bundles` side by side.

    Args:
        bundles: bundle folders; each is verified. One that cannot run here is a row that says so.
        images: a folder of images, or of one folder a class.
        labels: which class each image shows; see `labelled.find`.
        runs: timed runs of each.
        warmup: runs of each before the first timed one.
        say: told what is being done, a line at a time.

    Raises:
        MissingPackage: none can run, and one of them for want of a package.
        EdgekitError: none can run; or a bundle is damaged; or an image cannot be decoded.
        InputError: the bundles do not tell the same classes apart.
    """
    made = [bundle.read(path) for path in bundles]
    wanted = _same_images(made, images, labels)
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(path, None)) for path in bundles]
        loaded, refused = _load(workers)
        say(f"timing {len(loaded)} bundles, {runs} runs each, in turns")
        speeds = bench.time_in_turns(list(loaded), list(loaded.values()), runs, warmup)
        answers = _answers(list(loaded), wanted, say)
    ran = {
        w: _Ran(*each) for w, each in zip(loaded, zip(speeds, answers, strict=True), strict=True)
    }
    reference = next((w for w in ran if loaded[w].precision == "fp32"), next(iter(ran)))
    return Comparison(
        reference=str(reference.path),
        images=len(wanted.paths) if wanted else 0,
        rows=tuple(
            _row(each, worker, refused.get(worker, ""), ran.get(worker), ran[reference], wanted)
            for each, worker in zip(made, workers, strict=True)
        ),
        pairs=tuple(_pairs({str(worker.path): each.answers for worker, each in ran.items()})),
    )


def grid(logits: np.ndarray) -> float | None:
    """The step between neighbouring values of (N, classes) logits; None if they are on no grid.

    int8 logits have at most 256 values, a whole number of steps apart; this finds the step without
    reading any file, up to a factor where no two neighbours ever occurred.
    """
    values = np.unique(logits)
    if values.size < 2 or not np.isfinite(values).all():
        return None
    apart = np.diff(values)
    apart = apart[apart > 1e-5 * np.abs(values).max()]  # a runtime may round the same value anew
    step = float(apart.min())
    steps = (values - values[0]) / step
    if steps[-1] >= LEVELS or np.abs(steps - np.round(steps)).max() > 0.02:
        return None
    return step


def _same_images(
    made: Sequence[bundle.Bundle], images: Path | None, labels: Path | None
) -> Labelled | None:
    if images is None:
        if labels is not None:
            raise InputError("--labels says which class each image shows: give --images DIR, too")
        return None
    for each in made[1:]:
        if each.labels != made[0].labels:
            raise InputError(
                f"{made[0].path} and {each.path} do not tell the same classes apart "
                f"({len(made[0].labels)} and {len(each.labels)} labels): compare bundles of the "
                "same classes, or leave out --images"
            )
    return labelled.find(images, labels, made[0].labels)


def _load(workers: Sequence[Worker]) -> tuple[dict[Worker, Loaded], dict[Worker, str]]:
    """What those that run said, and why the others do not."""
    loaded, refused, errors = {}, {}, []
    for worker in workers:
        try:
            loaded[worker] = worker.load()
        except EdgekitError as error:
            refused[worker] = str(error)
            errors.append(error)
    if not loaded:
        raise next((e for e in errors if isinstance(e, MissingPackage)), errors[0])
    return loaded, refused


def _answers(
    workers: Sequence[Worker], wanted: Labelled | None, say: Say
) -> list[np.ndarray] | list[None]:
    """(N, classes) logits of each worker, image after image."""
    if wanted is None:
        return [None] * len(workers)
    rows: list[list[np.ndarray]] = [[] for _ in workers]
    for number, path in enumerate(wanted.paths, 1):
        if number % 100 == 1:
            say(f"image {number} of {len(wanted.paths)}")
        for row, worker in zip(rows, workers, strict=True):
            row.append(worker.logits(path))
    return [np.stack(row) for row in rows]


def _row(
    made: bundle.Bundle,
    worker: Worker,
    refused: str,
    ran: _Ran | None,
    reference: _Ran,
    wanted: Labelled | None,
) -> Row:
    top1 = agreement = step = None
    if ran and wanted and ran.answers is not None and reference.answers is not None:
        best = ran.answers.argmax(axis=1)
        agreement = _share(best == reference.answers.argmax(axis=1))
        top1 = _share(best == np.array(wanted.classes)) if wanted.classes is not None else None
        step = grid(ran.answers)
    return Row(
        bundle=str(worker.path),
        target=made.manifest.target,
        backend=made.manifest.backend,
        precision=made.manifest.precision,
        model_bytes=model_bytes(made),
        refused=refused,
        speed=ran.speed if ran else None,
        top1=top1,
        agreement=agreement,
        step=step,
    )


def _pairs(answers: Mapping[str, np.ndarray | None]) -> Iterator[Pair]:
    for (one, left), (two, right) in combinations(answers.items(), 2):
        if left is not None and right is not None:
            largest = float(np.abs(left.astype(np.float64) - right).max())
            found = [step for step in (grid(left), grid(right)) if step]
            same = _share(left.argmax(axis=1) == right.argmax(axis=1))
            yield Pair(one, two, same, largest, largest / max(found) if len(found) == 2 else None)


def _share(holds: np.ndarray) -> Share:
    share = float(holds.mean())
    return Share(share, *wilson(share, holds.size), holds.size)
