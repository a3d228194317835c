"""Which arguments a network was built with, read off the shapes of its tensors."""

import inspect
import itertools
from collections.abc import Iterator, Mapping
from typing import Protocol

import torch
from torch import nn

from edgekit import plugins
from edgekit.lower.network import Argument, fold_batch_norm

VALUES: Mapping[str, tuple[Argument, ...]] = {
    "width_mult": (1.0, 0.75, 0.5, 0.35, 1.4, 1.3, 0.25, 1.25, 1.1, 1.2),
    "groups": (1, 2, 3, 4, 8),
    "scale": (1.0, 0.25, 0.5, 1.5, 2.0),
}
"""What the papers publish of the arguments that shapes depend on; the usual one comes first."""


class Shaped(Protocol):
    """A tensor of any framework."""

    @property
    def shape(self) -> tuple[int, ...]: ...


Shapes = dict[str, tuple[int, ...]]


def guess_arguments(
    architecture: str, tensors: Mapping[str, Shaped], given: Mapping[str, Argument] | None = None
) -> dict[str, Argument]:
    """The arguments with which the network has these tensors; as far as shapes tell.

    The class count is the first dimension of the last layer's weight. Where the network then still
    differs, the published values of `VALUES`, and both values of each switch, are tried.

    Args:
        architecture: a builder's name.
        tensors: a state dict, whole or of a backbone; batch norm folded or not.
        given: what the user says; it is not doubted.

    Returns:
        `given`, and the arguments that shapes tell. Where nothing fits, the class count alone:
        loading the weights then names the first tensor that differs.
    """
    given = dict(given or {})
    builder = plugins.architecture(architecture)
    parameters = inspect.signature(builder).parameters
    try:
        usual = _shapes(architecture, given)
    except Exception:  # whatever an architecture raises for values that make no sense
        return given  # building it in earnest says what is wrong
    head = next((name for name, shape in reversed(usual.items()) if len(shape) > 1), "")
    if head in tensors and "num_classes" in parameters and "num_classes" not in given:
        given["num_classes"] = int(tensors[head].shape[0])
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for tried in _combinations({name: p for name, p in parameters.items() if name not in given}):
        if _fits(architecture, {**given, **tried}, found):
            return {**given, **tried}
    return given


def expected_shapes(module: nn.Module, tensors: Mapping[str, object]) -> Shapes:
    """Names and shapes of the state dict that `module` wants: folded if `tensors` came folded.

    `module` itself is changed where that means to fold its batch norm.
    """
    if not any(name.endswith("running_mean") for name in tensors):
        fold_batch_norm(module)
    return {
        name: tuple(value.shape)
        for name, value in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def _combinations(parameters: Mapping[str, inspect.Parameter]) -> Iterator[dict[str, Argument]]:
    """Nothing first, then every combination of what may have been chosen."""
    yield {}
    choices = {
        name: (False, True) if isinstance(parameter.default, bool) else VALUES[name]
        for name, parameter in parameters.items()
        if isinstance(parameter.default, bool) or name in VALUES
    }
    for values in itertools.product(*choices.values()):
        changed = zip(choices, values, strict=True)
        yield {name: value for name, value in changed if value != parameters[name].default}


def _fits(architecture: str, arguments: Mapping[str, Argument], found: Shapes) -> bool:
    """Whether each tensor that was found is one of the network's; some may be missing."""
    try:
        module = _on_paper(architecture, arguments)
        expected = expected_shapes(module, found)
    except Exception:  # a combination that the architecture does not take
        return False
    return all(expected.get(name) == shape for name, shape in found.items())


def _shapes(architecture: str, arguments: Mapping[str, Argument]) -> Shapes:
    module = _on_paper(architecture, arguments)
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def _on_paper(architecture: str, arguments: Mapping[str, Argument]) -> nn.Module:
    """The network with shapes but no numbers: takes milliseconds and next to no memory."""
    builder = plugins.architecture(architecture)
    with torch.device("meta"):
        module = builder(**arguments)
    assert isinstance(module, nn.Module)
    return module.eval()
