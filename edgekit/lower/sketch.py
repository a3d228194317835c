"""A network to be looked at, not run: an architecture needs no weights for that."""

from torch import nn

from edgekit import plugins
from edgekit.lower.load import IMAGENET, count_classes, load_network
from edgekit.lower.network import Network


def sketch(name: str) -> Network:
    """Find a network by name; an architecture gets its default arguments and random weights.

    Args:
        name: an architecture, a checkpoint (file or name), or `package.module:function`.

    Raises:
        UnknownName: neither an architecture nor a checkpoint; suggests the nearest.
        CheckpointError, SpecError, InputError: as `edgekit.lower.load.load_network`.
    """
    if name in plugins.architectures():
        module: nn.Module = plugins.architecture(name)().eval()
        labels = tuple(f"class {i}" for i in range(count_classes(module, IMAGENET, name)))
        return Network(name, module, IMAGENET, labels, {}, checkpoint_sha256="")
    return load_network(name)
