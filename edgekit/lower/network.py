"""What is to be lowered: a network with its weights, image contract and labels, as one value.

A network here takes *normalised* planes, (N, 3, H, W) float32, and gives logits (N, classes).
`CameraInput` puts the image contract's arithmetic in front of it, so that what is exported takes
camera pixels.
"""

import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgekit import checkpoint, plugins
from edgekit.errors import CheckpointError, InputError, SpecError, UnknownName
from edgekit.manifest import Accuracy
from edgekit.spec import ImageSpec

Argument: TypeAlias = int | float | str | bool

IMAGENET = ImageSpec(height=224, width=224)
"""torchvision's evaluation of its ImageNet classifiers: 224 of 256, bilinear, mean and std."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network ready to lower; `module` is in eval mode, batch norm folded where it can be."""

    name: str
    module: nn.Module
    image: ImageSpec
    labels: tuple[str, ...]
    arguments: Mapping[str, Argument]
    checkpoint_sha256: str
    """Of the weights file; empty for a network that brings its own weights."""
    accuracy: Accuracy | None = None
    """Of the float checkpoint, as its card states it."""

    @property
    def classes(self) -> int:
        return len(self.labels)


class CameraInput(nn.Module):
    """uint8 (1, H, W, 3) RGB pixels -> `(x / 255 - mean) / std` -> the network's logits.

    Normalisation is a depthwise 1x1 convolution, one multiply and one add a channel, which every
    runtime has in float and in int8. It stays an operator of its own: folded into the network's
    first convolution it would change what that one's zero padding means.
    """

    def __init__(self, network: nn.Module, image: ImageSpec):
        super().__init__()
        mean, std = (torch.tensor(v, dtype=torch.float64) for v in (image.mean, image.std))
        self.normalise = nn.Conv2d(3, 3, 1, groups=3)
        with torch.no_grad():
            self.normalise.weight.copy_((1 / (255 * std)).view(3, 1, 1, 1))
            self.normalise.get_parameter("bias").copy_(-mean / std)
        self.network = network
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        planes = image.permute(0, 3, 1, 2).float()  # (1, H, W, 3) -> (1, 3, H, W)
        return self.network(self.normalise(planes))


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Fold each batch norm that directly follows a convolution in a `Sequential` into it.

    In place; the batch norm becomes `Identity`, so module names stay. Exact in eval mode up to
    float rounding: w' = w * gamma / sqrt(var + eps), b' = (b - mean) * gamma / sqrt(var + eps)
    + beta.
    """
    module.eval()
    for sequential in [m for m in module.modules() if isinstance(m, nn.Sequential)]:
        for i in range(len(sequential) - 1):
            conv, norm = sequential[i], sequential[i + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                sequential[i] = fuse_conv_bn_eval(conv, norm)
                sequential[i + 1] = nn.Identity()
    return module


def load_weights(module: nn.Module, tensors: Mapping[str, np.ndarray], source: str) -> nn.Module:
    """Load a state dict, with batch norm folded or not; returns `module`, folded, in eval mode.

    Raises:
        CheckpointError: names the first tensor that is missing, left over or of another shape.
    """
    stored_folded = not any(name.endswith("running_mean") for name in tensors)
    if stored_folded:
        fold_batch_norm(module)
    expected = {
        name: tuple(value.shape)
        for name, value in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    found = {n: v for n, v in tensors.items() if not n.endswith("num_batches_tracked")}
    checkpoint.check(expected, found, source)
    module.load_state_dict(
        {n: torch.from_numpy(np.array(v)) for n, v in found.items()}, strict=False
    )
    return fold_batch_norm(module)


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
        weights: a `.safetensors` file or the name of a carried checkpoint; its card, if it has
            one, gives the architecture's arguments, the image contract and the labels.
        labels: a text file, one label a line, in the order of the classes.
        image: the image contract, where there is no card or the card is to be overruled.
        arguments: of the architecture's function, beside or instead of those of the card.

    Raises:
        UnknownName, CheckpointError, SpecError, InputError: with what to do.
    """
    if model is not None:
        _check_known(model)
    if model is None or _is_checkpoint(model):
        if weights is not None and model is not None:
            raise InputError(
                f"'{model}' is a checkpoint already: give it alone, not with --weights"
            )
        weights = weights or model or str(checkpoint.default())
        model = None
    stored = checkpoint.read(checkpoint.resolve(weights)) if weights else None
    card = stored.card if stored else None
    if model is None:
        if card is None:
            raise CheckpointError(
                f"{weights} has no card beside it: say which architecture it holds, as in "
                "'edgekit build mobilenet_v2 --weights FILE'"
            )
        model = card.architecture
    if ":" in model:
        module, chosen = _user_network(model, arguments or {}), dict(arguments or {})
    else:
        if stored is None:
            raise InputError(
                f"'{model}' is an architecture without weights: give --weights FILE.safetensors, "
                "or leave MODEL out to use the checkpoint that edgekit carries"
            )
        chosen = dict(card.arguments) if card else _guess_arguments(stored.tensors)
        chosen |= arguments or {}
        module = _build(model, chosen)
    if stored is not None:
        load_weights(module, stored.tensors, str(stored.path))
    image = image or (card.image if card else IMAGENET)
    classes = count_classes(fold_batch_norm(module), image, model)
    return Network(
        name=model.partition(":")[2] or model,
        module=module,
        image=image,
        labels=_labels(labels, card.labels if card else None, classes),
        arguments=chosen,
        checkpoint_sha256=checkpoint.digest(stored.path) if stored else "",
        accuracy=_accuracy(card),
    )


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
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise SpecError(f"'{name}' gives {shape}; an image classifier gives (1, classes)")
    return int(output.shape[1])


def _accuracy(card: checkpoint.Card | None) -> Accuracy | None:
    if card is None or card.accuracy is None:
        return None
    return Accuracy(card.accuracy, card.accuracy_images, "float checkpoint, its validation images")


def _check_known(model: str) -> None:
    if ":" in model or _is_checkpoint(model) or model in plugins.architectures():
        return
    raise UnknownName("model", model, (*plugins.architectures(), *checkpoint.names()))


def _is_checkpoint(model: str) -> bool:
    if model.endswith(".safetensors"):
        return True
    return ":" not in model and model in checkpoint.names()


def _build(name: str, arguments: Mapping[str, Argument]) -> nn.Module:
    builder = plugins.architecture(name)
    try:
        module = builder(**arguments)
    except TypeError as cause:
        raise SpecError(
            f"architecture '{name}' does not take {dict(arguments)}: {cause}"
        ) from cause
    assert isinstance(module, nn.Module)
    return module.eval()


def _guess_arguments(tensors: Mapping[str, np.ndarray]) -> dict[str, Argument]:
    """Without a card, the class count is read off the last layer's bias."""
    bias = tensors.get("classifier.1.bias")
    return {"num_classes": int(bias.shape[0])} if bias is not None and bias.ndim == 1 else {}


def _user_network(name: str, arguments: Mapping[str, Argument]) -> nn.Module:
    module_name, _, function = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does: the user's project is where they are
    try:
        builder = getattr(importlib.import_module(module_name), function)
        module = builder(**arguments)
    except (ImportError, AttributeError) as cause:
        raise InputError(
            f"cannot import '{name}': {cause}; give package.module:function, importable from here"
        ) from cause
    except Exception as cause:  # the user's own code may raise anything
        raise InputError(f"'{name}' raised {_kind(cause)}") from cause
    if not isinstance(module, nn.Module):
        raise InputError(f"'{name}' returned a {type(module).__name__}; it must be an nn.Module")
    return module.eval()


def _kind(cause: Exception) -> str:
    """`ValueError: what it says`, its first line."""
    return ": ".join([type(cause).__name__, *str(cause).strip().splitlines()[:1]])


def _labels(path: Path | None, carried: tuple[str, ...] | None, classes: int) -> tuple[str, ...]:
    if path is None:
        if carried is not None and len(carried) == classes:
            return carried
        return tuple(f"class {i}" for i in range(classes))
    try:
        labels = tuple(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as cause:
        raise InputError(f"cannot read labels from {path}: {cause}") from cause
    if len(labels) != classes:
        raise InputError(f"{path} has {len(labels)} labels; the network has {classes} classes")
    return labels
