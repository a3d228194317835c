"""A network to be looked at, not run: an architecture needs no weights for that."""

import dataclasses
import re
from collections.abc import Mapping

from torch import nn

from edgekit import plugins
from edgekit.cost import memory, receptive
from edgekit.cost.graph import trace
from edgekit.errors import EdgekitError, InputError
from edgekit.lower.load import (
    IMAGENET,
    build_network,
    count_classes,
    load_network,
    user_network,
)
from edgekit.lower.network import Argument, Network, folded
from edgekit.lower.widths import apply_widths
from edgekit.spec import ImageSpec


@dataclasses.dataclass(frozen=True, slots=True)
class Flow:
    """What flows through a network; None where the graph does not tell, and why."""

    peak: memory.Peak | None
    field: receptive.ReceptiveField | None
    unknown: tuple[str, ...] = ()
    """A line for each that is None."""


def sketch(
    name: str,
    arguments: Mapping[str, Argument] | None = None,
    size: tuple[int, int] | None = None,
) -> Network:
    """Find a network by name; an architecture gets random weights.

    Batch norm is folded in a checkpoint's network; in the others it is as they were built.

    Args:
        name: an architecture, a checkpoint (file or name), or `package.module:function`.
        arguments: of the architecture's or the user's function, beside or instead of the card's.
        size: height and width of the image, instead of the network's own or 224x224.

    Raises:
        UnknownName: neither an architecture nor a checkpoint; suggests the nearest.
        CheckpointError, SpecError, InputError: as `edgekit.lower.load.load_network`.
    """
    chosen = dict(arguments or {})
    if name in plugins.architectures():
        return _bare(name, name, build_network(name, chosen), chosen, _resized(IMAGENET, size))
    if ":" in name:
        function = name.partition(":")[2]
        module = user_network(name, chosen)
        return _bare(name, function, module, chosen, _resized(IMAGENET, size))
    network = folded(load_network(name, arguments=chosen))
    image = _resized(network.image, size)
    count_classes(network.module, image, name)  # takes this size, or says why not
    return dataclasses.replace(network, image=image)


def parse_size(text: str) -> tuple[int, int]:
    """`96` -> (96, 96); `160x128`, which is width x height -> (128, 160).

    Raises:
        InputError: it is neither.
    """
    found = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text, re.ASCII)
    if found is None:
        raise InputError(f"--size {text} is not a side, as 96, nor WIDTHxHEIGHT, as 160x128")
    width = int(found[1])
    return int(found[2] or width), width


def unfolded_parameters(network: Network) -> int | None:
    """How many parameters a checkpoint's architecture has with batch norm; None for the others."""
    if not network.checkpoint_sha256 or network.name not in plugins.architectures():
        return None
    module = apply_widths(build_network(network.name, network.arguments), network.widths)
    return sum(p.numel() for p in module.parameters())


def flow(network: Network) -> Flow:
    """Export the network, and follow its activations and its receptive field."""
    try:
        program = trace(network.module, network.image)
    except EdgekitError as error:
        return Flow(None, None, (f"peak activation memory and receptive field: {error}",))
    peak = memory.peak_activations(program)
    try:
        return Flow(peak, receptive.receptive_field(program))
    except EdgekitError as error:
        return Flow(peak, None, (f"receptive field: {error}",))


def _bare(
    given: str,
    name: str,
    module: nn.Module,
    arguments: Mapping[str, Argument],
    image: ImageSpec,
) -> Network:
    """A network without a checkpoint; classes have numbers for names."""
    labels = tuple(f"class {i}" for i in range(count_classes(module, image, given)))
    return Network(name, module, image, labels, arguments, checkpoint_sha256="")


def _resized(image: ImageSpec, size: tuple[int, int] | None) -> ImageSpec:
    return dataclasses.replace(image, height=size[0], width=size[1]) if size else image
