"""The steps of a recipe, one after the other; what is done is not done again."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from edgekit import checkpoint
from edgekit.checkpoint import replace_files
from edgekit.errors import InputError
from edgekit.learn import record
from edgekit.learn.bundles import build_bundle
from edgekit.learn.data import source
from edgekit.learn.data.source import Data
from edgekit.learn.first import built, first_network, first_widths
from edgekit.learn.prune.masks import pruned_before
from edgekit.learn.prune.rules import Held
from edgekit.learn.prune.step import prune
from edgekit.learn.qat.step import quantize
from edgekit.learn.recipe.recipe import Recipe
from edgekit.learn.recipe.steps import BuildStep, PruneStep, QuantizeStep, Step, TrainStep
from edgekit.learn.teach import teach
from edgekit.learn.train.distributed import agree, agree_on_file, first_makes
from edgekit.learn.train.place import HERE, Place
from edgekit.learn.watch import Watch
from edgekit.learn.work import Student, Work


@dataclass(frozen=True, slots=True)
class Done:
    """A step that is done."""

    step: Step
    path: Path
    """Its checkpoint, or its bundle."""
    student: Student
    student_path: Path
    """The checkpoint; of a build, the one that was built."""


def run(
    recipe: Recipe, out: Path, watch: Watch, steps: Sequence[Step], place: Place = HERE
) -> list[Done]:
    """Run `steps`, the first ones of the recipe, in the folder `out`.

    Each step has a folder of its own, `1-NAME`, with its checkpoint, `RECIPE.safetensors`, and what
    an interrupted run goes on from.

    Raises:
        InputError: data that is missing; an `out` of another recipe or other data.
        SpecError, UnknownName, CheckpointError: a recipe that does not fit its network.
        StorageError: `out` cannot be written.
    """
    data = source.read(recipe.head.data, recipe.classes)
    watch.line(f"{len(data.train)} images to learn from, {len(data.validation)} to measure with")
    claim = _first_claim(recipe, data)
    student = Student(first_network(recipe, data), first_widths(recipe))
    done: list[Done] = []
    for number, step in enumerate(steps, 1):
        folder = step_folder(out, number, step)
        claim = hashlib.sha256(f"{claim} {step!r}".encode()).hexdigest()
        _claim(folder / "run.txt", claim, place)
        work = Work(recipe, data, place, watch, folder)
        path = folder / f"{recipe.head.name}.safetensors"
        if isinstance(step, BuildStep):
            done.append(_build(step, done[-1], work))
            continue
        if place.peers.first(partial(_is_kept, path)):
            student = record.load(path, built(recipe, data.classes))
        else:
            student = _keep(path, _run(step, student, work), step, work)
        made = student.history[-1]
        watch.line(f"{path}: top-1 {made.accuracy:.4f} on {len(data.validation)} images")
        done.append(Done(step, path, student, path))
    return done


def step_folder(out: Path, number: int, step: Step) -> Path:
    """Where step `number`, counted from 1, leaves what it makes."""
    return out / f"{number}-{step.name}"


def upto(recipe: Recipe, kind: str) -> tuple[Step, ...]:
    """The steps up to the last one of this kind, and the builds that follow it.

    Raises:
        InputError: there is none.
    """
    last = max((n for n, step in enumerate(recipe.steps, 1) if step.kind == kind), default=0)
    if not last:
        kinds = ", ".join(step.kind for step in recipe.steps)
        raise InputError(
            f"the recipe '{recipe.head.name}' has no step of kind '{kind}'; its steps are: {kinds}"
        )
    while last < len(recipe.steps) and isinstance(recipe.steps[last], BuildStep):
        last += 1
    return recipe.steps[:last]


def _build(step: BuildStep, last: Done, work: Work) -> Done:
    """A bundle of what the step before left."""
    out = work.folder / f"{work.recipe.head.name}-{step.target}"
    arguments = (last.student_path, out, step.target, step.backend, step.precision)
    first_makes(work.place, partial(build_bundle, *arguments, work.data.train, work.watch.line))
    work.watch.line(f"{out}: built and proven")
    return Done(step, out, last.student, last.student_path)


def _is_kept(path: Path) -> bool:
    return path.exists() and checkpoint.card_path(path).exists()


def _keep(path: Path, student: Student, step: Step, work: Work) -> Student:
    """Write what a step left, and go on from what was written: as a later run would."""
    place = work.place
    if place.leads:
        record.write(path, student, step, work)
    place.peers.each("written")
    agree_on_file(place, path)
    return record.load(path, built(work.recipe, work.data.classes))


def _run(step: Step, student: Student, work: Work) -> Student:
    match step:
        case TrainStep():
            module = student.module
            with Held(module, pruned_before(student)) as held:
                fitted = teach(module, step.fit, step.distill, work, module, held)
            return replace(student, module=fitted.module)
        case PruneStep():
            return prune(step, student, work)
        case QuantizeStep():
            return quantize(step, student, work)
    raise AssertionError(step)


def _first_claim(recipe: Recipe, data: Data) -> str:
    """What all steps stand on: the recipe's head, the data, the first weights."""
    head = replace(recipe.head, data=replace(recipe.head.data, path=Path()))  # where it lies
    weights = head.model.weights
    digest = checkpoint.digest(checkpoint.resolve(weights)) if weights else ""
    return f"{head!r} {data.train.fingerprint} {data.validation.fingerprint} {digest}"


def _claim(mark: Path, claim: str, place: Place) -> None:
    """Mark a step's folder: go on only from what the same recipe and data have left."""
    agree(place, claim, "the recipe, the data or the weights to begin with")
    if mark.exists() and mark.read_text(encoding="utf-8") != claim:
        raise InputError(
            f"{mark.parent} was left by another recipe, other data or other weights; "
            "give another folder with -o, or remove it"
        )
    first_makes(place, partial(replace_files, {mark: claim.encode()}))
    agree_on_file(place, mark)
