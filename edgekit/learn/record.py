"""A student as a checkpoint: its weights and its card; and back."""

import platform
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from edgekit import checkpoint
from edgekit.checkpoint import Card, Made
from edgekit.cost.layers import cost
from edgekit.learn.evaluate import accuracy
from edgekit.learn.recipe.steps import Step
from edgekit.learn.work import Student, Work


def write(path: Path, student: Student, step: Step, work: Work) -> None:
    """Measure the student, and write it with its card.

    Raises:
        StorageError: `path` cannot be written.
    """
    head = work.recipe.head
    module = student.module
    found = student.accuracy
    if found is None:
        found = accuracy(module, work.data.validation, head.image)
    tensors = {n: value.detach().contiguous().numpy() for n, value in module.state_dict().items()}
    weights = [p.detach() for p in module.parameters()]
    nonzero = sum(int(torch.count_nonzero(weight)) for weight in weights)
    whole = sum(weight.numel() for weight in weights)
    macs = cost(module, head.image).macs
    made = Made(
        step=step.name,
        kind=step.kind,
        recipe=head.name,
        seed=head.seed,
        sha256="",
        accuracy=found,
        macs=macs,
        parameters=nonzero,
    )
    card = Card(
        schema=checkpoint.SCHEMA,
        architecture=head.model.architecture,
        arguments={**head.model.arguments, "num_classes": len(work.data.classes)},
        image=head.image,
        labels=tuple(spec.label for spec in work.data.classes),
        sha256="",
        trained_on=head.trained_on,
        license=head.license,
        accuracy=found,
        accuracy_images=len(work.data.validation),
        recipe=head.name,
        seed=head.seed,
        tools={name: version(name) for name in ("torch", "numpy")}
        | {"python": platform.python_version()},
        recipe_text=work.recipe.text,
        data={
            head.data.train: work.data.train.fingerprint,
            head.data.validation: work.data.validation.fingerprint,
        },
        metrics={
            **student.metrics,
            "macs": macs,
            "parameters": whole,
            "sparsity": 1 - nonzero / whole,
        },
        history=(*student.history, made),
        widths=student.widths,
        ranges=student.ranges,
        keep_float=student.keep_float,
    )
    checkpoint.write(path, tensors, card)


def load(path: Path, module: nn.Module) -> Student:
    """Read what `write` wrote into a network as its architecture builds it."""
    from edgekit.lower.network import load_weights
    from edgekit.lower.widths import apply_widths

    stored = checkpoint.read(path)
    card = stored.card
    assert card is not None
    last = replace(card.history[-1], sha256=card.sha256)  # now the file has a digest
    return Student(
        module=load_weights(apply_widths(module, card.widths), stored.tensors, str(path)),
        widths=card.widths,
        metrics=card.metrics,
        ranges=card.ranges,
        keep_float=card.keep_float,
        history=(*card.history[:-1], last),
    )
