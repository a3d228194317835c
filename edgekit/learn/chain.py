"""The steps of a recipe, one after the other; what is done is not done again."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from edgekit import checkpoint
from edgekit.checkpoint import Checkpoint, replace_files
from edgekit.errors import InputError
from edgekit.learn import record
from edgekit.learn.bundles import build_bundle
from edgekit.learn.data import source
from edgekit.learn.data.source import Data
from edgekit.learn.distil.choice import IMAGENET
from edgekit.learn.prune.step import prune
from edgekit.learn.qat.step import quantize
from edgekit.learn.recipe.data import ClassSpec
from edgekit.learn.recipe.recipe import Recipe
from edgekit.learn.recipe.steps import BuildStep, PruneStep, QuantizeStep, Step, TrainStep
from edgekit.learn.teach import teach
from edgekit.learn.train.place import HERE, Place
from edgekit.learn.watch import Watch
from edgekit.learn.work import Student, Work
from edgekit.lower.load import build_network, user_network
from edgekit.lower.network import are_folded, fold_batch_norm
from edgekit.plugins import architectures


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
    student = Student(begin(recipe, data))
    done = []
    for number, step in enumerate(steps, 1):
        folder = step_folder(out, number, step)
        claim = hashlib.sha256(f"{claim} {step!r}".encode()).hexdigest()
        _claim(folder / "run.txt", claim, place)
        work = Work(recipe, data, place, watch, folder)
        path = folder / f"{recipe.head.name}.safetensors"
        if isinstance(step, BuildStep):
            done.append(_build(step, done[-1], work))
            continue
        if path.exists() and checkpoint.card_path(path).exists():
            student = record.load(path, begin(recipe, data))
        else:
            student = record.write(path, _run(step, student, work), step, work)
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
    if work.place.leads:
        build_bundle(
            *(last.student_path, out, step.target, step.backend, step.precision),
            *(work.data.train, work.watch.line),
        )
    work.watch.line(f"{out}: built and proven")
    return Done(step, out, last.student, last.student_path)


def _run(step: Step, student: Student, work: Work) -> Student:
    match step:
        case TrainStep():
            fitted = teach(student.module, step.fit, step.distill, work, student.module)
            return replace(student, module=fitted.module)
        case PruneStep():
            return prune(step, student, work)
        case QuantizeStep():
            return quantize(step, student, work)
    raise AssertionError(step)


def begin(recipe: Recipe, data: Data) -> nn.Module:
    """The network with the weights that the recipe begins with."""
    choice = recipe.head.model
    arguments = {**choice.arguments, "num_classes": len(data.classes)}
    torch.manual_seed(recipe.head.seed)
    if choice.architecture in architectures() or ":" not in choice.architecture:
        module = build_network(choice.architecture, arguments)
    else:
        module = user_network(choice.architecture, arguments)
    if choice.weights:
        _adopt(module, choice.weights, data.classes)
    return module


def _adopt(module: nn.Module, weights: str, classes: Sequence[ClassSpec]) -> None:
    """Load what fits by name and shape; what does not may only be the last layer.

    Of the last layer, the classes' own outputs are kept, where they are known, see `_outputs`.
    """
    stored = checkpoint.read(checkpoint.resolve(weights))
    if are_folded(stored.tensors):
        fold_batch_norm(module)
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
    checkpoint.check(expected, found, weights)
    module.load_state_dict({n: torch.from_numpy(v.copy()) for n, v in found.items()}, strict=False)


def _outputs(stored: Checkpoint, last: str, classes: Sequence[ClassSpec]) -> list[int] | None:
    """Which of the stored outputs the classes are: by the card's labels, or in ImageNet's 1,000."""
    labels = stored.card.labels if stored.card else ()
    if all(labels.count(spec.label) == 1 for spec in classes):
        return [labels.index(spec.label) for spec in classes]
    count = len(stored.tensors.get(last, ()))
    if count == IMAGENET and all(0 <= spec.imagenet < count for spec in classes):
        return [spec.imagenet for spec in classes]
    return None


def _first_claim(recipe: Recipe, data: Data) -> str:
    """What all steps stand on: the recipe's head, the data, the first weights."""
    head = replace(recipe.head, data=replace(recipe.head.data, path=Path()))  # where it lies
    weights = head.model.weights
    digest = checkpoint.digest(checkpoint.resolve(weights)) if weights else ""
    return f"{head!r} {data.train.fingerprint} {data.validation.fingerprint} {digest}"


def _claim(mark: Path, claim: str, place: Place) -> None:
    """Mark a step's folder: go on only from what the same recipe and data have left."""
    if mark.exists() and mark.read_text(encoding="utf-8") != claim:
        raise InputError(
            f"{mark.parent} was left by another recipe, other data or other weights; "
            "give another folder with -o, or remove it"
        )
    if place.leads:
        replace_files({mark: claim.encode()})
