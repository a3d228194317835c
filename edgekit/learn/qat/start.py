"""What training for int8 begins with: the float network, evened out, its batch norm live."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgekit.lower import export
from edgekit.lower.forms.canonical import canonical
from edgekit.lower.forms.integer import hard_sigmoid_layers, in_integer_forms
from edgekit.lower.int8.equalise import Part, is_free, measured
from edgekit.lower.int8.pairs import layer_name
from edgekit.lower.network import CameraInput, fold_batch_norm, folds, reparameterized
from edgekit.spec import ImageSpec


@dataclass(frozen=True, slots=True)
class Start:
    """What is trained, and the program that the build would quantise."""

    base: nn.Module
    """The network; its parameters are those that are trained."""
    norms: Mapping[str, str]
    """Convolution -> the batch norm after it, both of `base`; they will be one layer."""
    sixths: frozenset[str]
    """Layers that a hard sigmoid is folded into."""
    program: ExportedProgram
    """In integer forms; float."""


def start(module: nn.Module, image: ImageSpec, images: Sequence[Tensor]) -> Start:
    """Even out the channels of a copy, and export it.

    Args:
        module: in eval mode; only read.
        image: the image contract.
        images: (1, H, W, 3) uint8, to measure channels on.

    Raises:
        SpecError: PyTorch cannot export it.
    """
    base = copy.deepcopy(module).eval().requires_grad_(True)
    for part in [base.get_submodule(name) for name in reparameterized(base)]:
        part.reparameterize()  # type: ignore[operator]
    base.eval().requires_grad_(True)
    norms = _live(base)
    program = canonical(export.export(_camera(base, image), images[0]), images[0])
    graph = program.module(check_guards=False)
    _even(base, norms, graph, images)
    folded = _camera(base, image).state_dict()
    with torch.no_grad():
        for name, value in graph.state_dict().items():
            if name in folded:
                value.copy_(folded[name])
    program = torch.export.export(graph, (images[0],))
    sixths = frozenset(layer_name(layer) for _, layer in hard_sigmoid_layers(graph.graph))
    return Start(base, norms, sixths, in_integer_forms(program, images[0]))


def _camera(base: nn.Module, image: ImageSpec) -> CameraInput:
    return CameraInput(fold_batch_norm(copy.deepcopy(base)), image)


def _live(base: nn.Module) -> dict[str, str]:
    """The batch norms that stay until the end; one without weights is folded at once."""
    found = {}
    for conv_name, norm_name in folds(base):
        conv, norm = base.get_submodule(conv_name), base.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        if norm.affine:
            found[conv_name] = norm_name
        else:
            base.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
            base.set_submodule(norm_name, nn.Identity().eval())
    return found


@torch.no_grad()
def _even(
    base: nn.Module, norms: Mapping[str, str], graph: fx.GraphModule, images: Sequence[Tensor]
) -> None:
    """Cross-layer equalisation, as the build does it, of the weights that will be trained.

    Where batch norm makes a channel, its weight and bias are scaled. What a layer takes less of it
    gives as before, so batch norm's statistics stay true.
    """
    named = dict(base.named_parameters())
    for space, factors in measured(graph, images):
        layers = [layer_name(part.node) for part in (*space.makers, *space.users)]
        if not all(f"{name}.weight" in named for name in layers):
            continue  # one of them is the camera's, or a constant
        for part in space.makers:
            _make(named, norms, layer_name(part.node), factors[part.channels])
        for part in space.users:
            _use(named[f"{layer_name(part.node)}.weight"], part, factors)


def _make(
    named: Mapping[str, nn.Parameter], norms: Mapping[str, str], name: str, factors: Tensor
) -> None:
    for kind in ("weight", "bias"):
        value = named.get(f"{norms.get(name, name)}.{kind}")
        if value is not None:
            value.mul_(factors.view(-1, *[1] * (value.dim() - 1)))


def _use(weight: nn.Parameter, part: Part, factors: Tensor) -> None:
    shape = [1] * weight.dim()
    shape[0 if is_free(part.node) else 1] = -1
    weight.mul_((1 / factors[part.channels]).view(shape))
