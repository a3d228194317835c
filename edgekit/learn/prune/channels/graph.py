"""Which channels belong together: labels, one a channel, that flow through the network.

Each convolution labels what it makes; what follows passes labels on as it passes channels on. An
addition makes two labels one. A view, a transpose, a slice or a concatenation is simply done to the
labels, so a channel shuffle or a split needs no rule of its own:

    conv1 -> [1 2 3 4] -> shuffle -> [1 3 2 4] -> split -> [1 3] -> conv2 takes 1 and 3
                                                        -> [2 4] -> + conv3's [5 6]: 2=5, 4=6

The network runs on labels alone, as `torch.fx` traces it: no weight is touched.
"""

from collections.abc import Mapping

from torch import nn

from edgekit.learn.prune.channels.flow import Flow as Flow
from edgekit.learn.prune.channels.flow import Kind as Kind
from edgekit.learn.prune.channels.operations import Runner, trace


def follow(
    module: nn.Module, size: tuple[int, int], kinds: Mapping[str, Kind] | None = None
) -> Flow:
    """Let labels flow through `module`.

    Args:
        module: (1, 3, *size) -> anything; only its structure is looked at.
        size: height and width of the image.
        kinds: of a network that is not pruned yet, where this one is.

    Raises:
        SpecError: names the layer that cannot be followed.
    """
    return Runner(module, size, kinds).run(trace(module))
