"""Find a network and its weights: by an architecture's name, a checkpoint, or a user's function."""

import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekit import checkpoint, plugins
from edgekit.checkpoint import Card, Checkpoint
from edgekit.errors import CheckpointError, InputError, SpecError, UnknownName
from edgekit.lower import untrained
from edgekit.lower.guess import guess_arguments
from edgekit.lower.network import (
    Argument,
    Network,
    are_folded,
    has_batch_norm,
    load_weights,
)
from edgekit.lower.widths import apply_widths
from edgekit.manifest import Accuracy
from edgekit.published import IMAGENET as IMAGENET
from edgekit.published import catalogue
from edgekit.spec import ImageSpec


def load_network(
    model: str | None,
    weights: str | None = None,
    labels: Path | None = None,
    image: ImageSpec | None = None,
    arguments: Mapping[str, Argument] | None = None,
) -> Network:
    """Find a network and its weights.

    Args:
        model: an architecture's name, a checkpoint (file or name), `package.module:function`, or
            None for the checkpoint that edgekit carries.
        weights: a `.safetensors` file or the name of a checkpoint; its card, if it has one, gives
            the architecture's arguments, the image contract and the labels. `random` for an
            architecture that is to be measured before it is trained.
        labels: a text file, one label a line, in the order of the classes.
        image: the image contract, where there is no card or the card is to be overruled.
        arguments: of the architecture's function, beside or instead of those of the card.

    Raises:
        UnknownName, CheckpointError, SpecError, InputError: with what to do.
    """
    if weights == untrained.NAME:
        if model not in plugins.architectures():
            kind = "architecture (--weights random needs one by name)"
            raise UnknownName(kind, model or "", plugins.architectures())
        return _untrained(model, labels, image or IMAGENET, dict(arguments or {}))
    model, stored = _find(model, weights)
    card = stored.card if stored else None
    chosen: dict[str, Argument] = {}
    if stored is not None and ":" not in model:
        given = arguments or {}
        chosen = dict(card.arguments) if card else guess_arguments(model, stored.tensors, given)
    chosen |= arguments or {}
    module = user_network(model, chosen) if ":" in model else build_network(model, chosen)
    widths = card.widths if card else {}
    apply_widths(module, widths)
    stored_folded = False
    if stored is not None:
        stored_folded = has_batch_norm(module) and are_folded(stored.tensors)
        load_weights(module, stored.tensors, str(stored.path))
    image = image or (card.image if card else IMAGENET)
    classes = count_classes(module, image, model)
    return Network(
        name=model.partition(":")[2] or model,
        module=module,
        image=image,
        labels=read_labels(labels, card.labels if card else (), classes),
        arguments=chosen,
        checkpoint_sha256=checkpoint.digest(stored.path) if stored else "",
        accuracy=_accuracy(card),
        stored_folded=stored_folded,
        widths=widths,
        ranges=card.ranges if card else {},
        keep_float=card.keep_float if card else (),
    )


def _untrained(
    name: str, labels: Path | None, image: ImageSpec, arguments: dict[str, Argument]
) -> Network:
    """An architecture with seeded weights, batch norm settled on sample photographs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(untrained.SEED)
        module = build_network(name, arguments)
    classes = count_classes(module, image, name)
    module = untrained.settle(module, image)
    names = read_labels(labels, (), classes)
    return Network(name, module, image, names, arguments, checkpoint_sha256="", trained=False)


def _find(model: str | None, weights: str | None) -> tuple[str, Checkpoint | None]:
    """The architecture (or the user's function) and the checkpoint that are meant."""
    if model is None or _is_checkpoint(model):
        if weights is not None and model is not None:
            raise InputError(
                f"'{model}' is a checkpoint already: give it alone, not with --weights"
            )
        name = weights or model or str(checkpoint.default())
        stored = checkpoint.read(checkpoint.resolve(name))
        if stored.card is None:
            raise CheckpointError(
                f"{name} has no card beside it: say which architecture it holds, as in "
                "'edgekit build mobilenet_v2 --weights FILE'"
            )
        return stored.card.architecture, stored
    if ":" not in model and model not in plugins.architectures():
        if any(entry.name == model for entry in catalogue().checkpoints):
            checkpoint.resolve(model)  # says how to fetch it
        raise UnknownName("model", model, (*plugins.architectures(), *checkpoint.names()))
    if weights is not None:
        return model, checkpoint.read(checkpoint.resolve(weights))
    if ":" not in model:
        raise InputError(
            f"'{model}' is an architecture without weights: give --weights FILE.safetensors "
            "(or --weights random, to measure it before it is trained), "
            "or leave MODEL out to use the checkpoint that edgekit carries"
        )
    return model, None


def count_classes(module: nn.Module, image: ImageSpec, name: str) -> int:
    """Run the network once on mid-grey; its output must be (1, classes)."""
    with torch.inference_mode():
        try:
            output = module(torch.zeros(1, 3, image.height, image.width))
        except Exception as cause:  # a user's own network may raise anything
            raise SpecError(
                f"'{name}' does not take a (1, 3, {image.height}, {image.width}) float tensor: "
                f"{_kind(cause)}"
            ) from cause
    if not isinstance(output, Tensor) or output.dim() != 2 or output.shape[0] != 1:
        raise SpecError(
            f"'{name}' gives {_described(output)}; an image classifier gives one tensor, "
            f"(1, classes): {_way_to_logits(output)}"
        )
    return int(output.shape[1])


def _described(output: object) -> str:
    """`a tuple of (1, 10) and (1, 16)`; `a dict of out: (1, 10)`."""
    if isinstance(output, Tensor):
        return str(tuple(output.shape))
    kind = f"a {type(output).__name__}"
    if isinstance(output, Mapping):
        return f"{kind} of {', '.join(f'{k}: {_described(v)}' for k, v in output.items())}"
    if isinstance(output, list | tuple):
        return f"{kind} of {' and '.join(map(_described, output))}"
    return kind


def _way_to_logits(output: object) -> str:
    """What the user can write: which of several outputs looks like the logits."""
    pairs: list[tuple[object, object]] = []
    if isinstance(output, Mapping):
        pairs = list(output.items())
    elif isinstance(output, list | tuple):
        pairs = list(enumerate(output))
    for key, value in pairs:
        if isinstance(value, Tensor) and value.dim() == 2 and value.shape[0] == 1:
            return (
                f"have your function return a module whose forward(self, x) is "
                f"'return self.network(x)[{key!r}]'"
            )
    if isinstance(output, Tensor) and output.dim() > 2:
        return "pool over the map, as in 'return x.mean((2, 3))', and classify what is left"
    return "have your function return a module whose forward(self, x) returns the logits alone"


def _accuracy(card: Card | None) -> Accuracy | None:
    if card is None or card.accuracy is None:
        return None
    kind = "in int8, as trained" if card.ranges else "float checkpoint"
    return Accuracy(card.accuracy, card.accuracy_images, f"{kind}, its validation images")


def _is_checkpoint(model: str) -> bool:
    if model.endswith(".safetensors"):
        return True
    return ":" not in model and model in checkpoint.names()


def build_network(name: str, arguments: Mapping[str, Argument]) -> nn.Module:
    """An architecture with random weights, in eval mode; SpecError for wrong arguments."""
    builder = plugins.architecture(name)
    for key, parameter in inspect.signature(builder).parameters.items():
        if isinstance(parameter.default, int | float) and isinstance(arguments.get(key), str):
            raise SpecError(
                f"architecture '{name}' takes a number for {key}, as {key}={parameter.default}; "
                f"'{arguments[key]}' is text"
            )
    try:
        module = builder(**arguments)
    except (TypeError, ValueError, RuntimeError, OverflowError, ZeroDivisionError) as cause:
        raise SpecError(
            f"architecture '{name}' does not take {dict(arguments)}: {_kind(cause)}"
        ) from cause
    assert isinstance(module, nn.Module)
    return module.eval()


def user_network(name: str, arguments: Mapping[str, Argument]) -> nn.Module:
    """What the user's own function returns, in eval mode; InputError says what it did instead."""
    module_name, _, function = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does: the user's project is where they are
    try:
        builder = getattr(importlib.import_module(module_name), function)
    except (ImportError, AttributeError, ValueError) as cause:
        raise InputError(
            f"cannot import '{name}': {cause}; give package.module:function, importable from here"
        ) from cause
    except Exception as cause:  # the user's own module may raise anything
        raise InputError(f"importing '{module_name}' raised {_kind(cause)}") from cause
    try:
        module = builder(**arguments)
    except Exception as cause:
        raise InputError(f"'{name}' raised {_kind(cause)}") from cause
    if not isinstance(module, nn.Module):
        raise InputError(f"'{name}' returned a {type(module).__name__}; it must be an nn.Module")
    return module.eval()


def _kind(cause: Exception) -> str:
    """`ValueError: what it says`, its first line."""
    return ": ".join([type(cause).__name__, *str(cause).strip().splitlines()[:1]])


def read_labels(path: Path | None, carried: tuple[str, ...], classes: int) -> tuple[str, ...]:
    """The labels in `path`; without it those that the weights carry, or `class 0`, `class 1` ...

    Raises InputError: the file cannot be read, or has another number of lines than `classes`.
    """
    if path is None:
        if len(carried) == classes:
            return carried
        return tuple(f"class {i}" for i in range(classes))
    try:
        labels = tuple(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as cause:
        raise InputError(f"cannot read labels from {path}: {cause}") from cause
    if len(labels) != classes:
        raise InputError(f"{path} has {len(labels)} labels; the network has {classes} classes")
    return labels
