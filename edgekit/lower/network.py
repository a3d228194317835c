"""What is to be lowered: a network with its weights, image contract and labels, as one value.

A network here takes *normalised* planes, (N, 3, H, W) float32, and gives logits (N, classes).
`CameraInput` puts the image contract's arithmetic in front of it, so that what is exported takes
camera pixels.
"""

import copy
import dataclasses
import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgekit import checkpoint
from edgekit.checkpoint import Range
from edgekit.errors import SpecError
from edgekit.manifest import Accuracy
from edgekit.spec import ImageSpec

Argument: TypeAlias = int | float | str | bool


@dataclass(frozen=True, slots=True)
class Network:
    """A network ready to lower; `module` is in eval mode, as it was built or stored."""

    name: str
    module: nn.Module
    image: ImageSpec
    labels: tuple[str, ...]
    arguments: Mapping[str, Argument]
    checkpoint_sha256: str
    """Of the weights file; empty for a network that brings its own weights."""
    accuracy: Accuracy | None = None
    """Of the float checkpoint, as its card states it."""
    trained: bool = True
    """Whether its answers mean something; if not, the gate compares logits, not what is largest."""
    stored_folded: bool = False
    """Whether its weights were stored without batch norm: there is no network before folding."""
    widths: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Where it is narrower than its architecture builds it; see `checkpoint.Card`."""
    ranges: Mapping[str, Range] = field(default_factory=dict)
    """Of activations in int8, where it was trained for that: see `int8.ranges`."""
    keep_float: tuple[str, ...] = ()
    """The layers that it was trained to keep in float then."""

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


def folded(network: Network) -> Network:
    """A copy whose module is in the form that runs on a device, see `fold_batch_norm`.

    Raises:
        SpecError: the module holds something that cannot be copied.
    """
    try:
        module = copy.deepcopy(network.module)
    except Exception as cause:  # a user's own module may hold anything
        lines = str(cause).splitlines()
        raise SpecError(
            f"'{network.name}' cannot be copied, so its folded form could not be compared with it: "
            f"{type(cause).__name__}: {lines[0] if lines else ''}; hold in the module only what "
            "copy.deepcopy takes"
        ) from cause
    return dataclasses.replace(network, module=fold_batch_norm(module))


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Bring `module` into the form that runs on a device, in place and in eval mode.

    Parts that have a training form and a deploy form (a method `reparameterize`, as in MobileOne)
    take the latter. Each batch norm that takes a convolution's output, and is alone in that, is
    folded into it and becomes `Identity`, so module names stay. Both are exact up to float
    rounding: w' = w * gamma / sqrt(var + eps), b' = (b - mean) * gamma / sqrt(var + eps) + beta.
    """
    module.eval()
    for part in [module.get_submodule(name) for name in reparameterized(module)]:
        part.reparameterize()  # type: ignore[operator]
    module.eval()  # the new parts, too
    for conv_name, norm_name in folds(module):
        conv, norm = module.get_submodule(conv_name), module.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        module.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
        module.set_submodule(norm_name, nn.Identity().eval())
    return module


def reparameterized(module: nn.Module) -> list[str]:
    """Names of the parts that have a deploy form."""
    changes = ((n, getattr(part, "reparameterize", None)) for n, part in module.named_modules())
    # One that wants arguments is something else: a variational autoencoder's has that name.
    return [name for name, change in changes if callable(change) and not _defaults(change)[1]]


def folds(module: nn.Module) -> list[tuple[str, str]]:
    """Names of each convolution and the batch norm that can be folded into it."""
    return [
        (conv, norm)
        for conv, norm in _pairs(module)
        if _are_plain(module.get_submodule(conv), module.get_submodule(norm))
    ]


def _are_plain(conv: nn.Module, norm: nn.Module) -> bool:
    """Whether the two do nothing else; a class made from one may standardise or activate."""
    plain = type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d
    hooked = any(part._forward_hooks or part._forward_pre_hooks for part in (conv, norm))
    return plain and not hooked and norm.running_mean is not None


def _pairs(module: nn.Module) -> list[tuple[str, str]]:
    """Names of modules of which the second alone takes what the first, run once, gives."""
    try:
        graph = fx.Tracer().trace(module, concrete_args=_defaults(module.forward)[0])
    except Exception:  # a user's forward() may do what cannot be traced by symbols
        return _neighbours(module)
    runs = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        if node.op == "get_attr":  # forward() reads this module's weights itself
            runs[str(node.target).rpartition(".")[0]] += 1
    return [
        (str(node.target), str(user.target))
        for node in graph.nodes
        if node.op == "call_module" and len(node.users) == 1
        for user in node.users
        if user.op == "call_module" and runs[node.target] == runs[user.target] == 1
    ]


def _neighbours(module: nn.Module) -> list[tuple[str, str]]:
    """Modules that follow each other in a `Sequential`, and stand nowhere else."""
    found = []
    stands = Counter(id(part) for _, part in module.named_modules(remove_duplicate=False))
    for name, parent in module.named_modules():
        if type(parent).forward is nn.Sequential.forward:
            names = [f"{name}.{child}".lstrip(".") for child in parent._modules]
            found += list(pairwise(names))
    return [
        pair for pair in found if all(stands[id(module.get_submodule(name))] == 1 for name in pair)
    ]


def _defaults(function: Callable[..., object]) -> tuple[dict[str, object], list[str]]:
    """Of a function's arguments: the default values, and the names of those that have none."""
    arguments = inspect.signature(function).parameters.values()
    plain = [a for a in arguments if a.kind not in (a.VAR_POSITIONAL, a.VAR_KEYWORD)]
    values = {a.name: a.default for a in plain if a.default is not a.empty}
    return values, [a.name for a in plain if a.default is a.empty]


def load_weights(module: nn.Module, tensors: Mapping[str, np.ndarray], source: str) -> nn.Module:
    """Load a state dict into `module`; folds it first where batch norm was stored folded.

    Returns:
        `module`, in eval mode.

    Raises:
        CheckpointError: names the first tensor that is missing, left over or of another shape.
    """
    if are_folded(tensors):
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
    return module.eval()


def are_folded(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether a state dict has no batch norm (also of an architecture that never had any)."""
    return not any(name.endswith("running_mean") for name in tensors)


def has_batch_norm(module: nn.Module) -> bool:
    """Whether any part of `module` is a batch norm that keeps statistics."""
    return any(name.endswith("running_mean") for name, _ in module.named_buffers())
