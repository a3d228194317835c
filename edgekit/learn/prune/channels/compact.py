"""The network without its least channels: masked (they are zero), and compacted (truly smaller).

Both answer the same. What a compacted layer takes from the old one is not computed from rules about
shuffles and splits, but looked up: labels flow through the small network as they did through the
large one, and a channel of the large one is given to each channel of the small one of its role.
"""

import copy
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgekit.errors import SpecError
from edgekit.learn.prune.channels.graph import Flow, follow
from edgekit.learn.prune.channels.groups import Dial, Role, roles
from edgekit.lower.widths import apply_widths, sizes

Setting = Sequence[int]
"""A level for each dial."""


class Unfit(Exception):
    """These widths do not go together; not for users: others are tried.

    `layers` are those that they do not fit, where it is known.
    """

    def __init__(self, why: str, layers: frozenset[str] = frozenset()):
        super().__init__(why)
        self.layers = layers


@dataclass(frozen=True, slots=True)
class Compacted:
    """A smaller network, in eval mode, and what makes it so."""

    module: nn.Module
    widths: dict[str, dict[str, int]]
    """What of it differs from the one before; see `Card.widths`."""
    removed: frozenset[int]
    """Roots of the channels that are gone."""


def widths(
    module: nn.Module, flow: Flow, dials: Sequence[Dial], setting: Setting
) -> dict[str, dict[str, int]]:
    """What changes of the network when its dials are set so."""
    less_out, less_in, found = defaultdict[str, int](int), defaultdict[str, int](int), {}
    for dial, level in zip(dials, setting, strict=True):
        for less, counts in ((less_out, dial.outs), (less_in, dial.ins)):
            for layer, count in counts.items():
                less[layer] += count - count * level // dial.size
        for (name, attribute), value in dial.numbers.items():
            if level < dial.size:
                found[name] = {attribute: value * level // dial.size}
    for layer in [name for name in flow.outs if less_out[name] or less_in[name]]:
        found[layer] = _layer_widths(module, flow, layer, less_out[layer], less_in[layer])
    return found


def _layer_widths(
    module: nn.Module, flow: Flow, layer: str, less_out: int, less_in: int
) -> dict[str, int]:
    part = module.get_submodule(layer)
    names = sizes(part)
    if flow.kinds[layer] == "channelwise":
        return {names[0]: len(flow.outs[layer]) - less_out}
    if flow.kinds[layer] == "depthwise":
        assert isinstance(part, nn.Conv2d)
        out = part.out_channels - less_out
        left = out * part.in_channels // part.out_channels
        return {"in_channels": left, "out_channels": out, "groups": left}
    changed = {names[0]: len(flow.ins[layer]) - less_in, names[1]: len(flow.outs[layer]) - less_out}
    return {name: value for name, value in changed.items() if value != getattr(part, name)}


def compact(
    module: nn.Module,
    flow: Flow,
    dials: Sequence[Dial],
    setting: Setting,
    score: Mapping[int, float],
    size: tuple[int, int],
) -> Compacted:
    """Make the network smaller; the one given stays as it is.

    Args:
        module: as `flow` was made of.
        flow: what flows in it.
        dials: of the flow.
        setting: what is left.
        score: how much each channel matters, by its root; the largest stay.
        size: height and width of the image.

    Raises:
        Unfit: these widths do not go together.
        SpecError: the small network does not answer as the masked one: something in the network
            was not understood.
    """
    changed = widths(module, flow, dials, setting)
    small = apply_widths(copy.deepcopy(module), changed).eval()
    try:
        thin = follow(small, size, flow.kinds)
    except (SpecError, RuntimeError) as cause:
        raise Unfit(str(cause)) from cause
    origin = _match(roles(flow), roles(thin), score)
    for layer in flow.outs:
        _fill(layer, module, small, flow, _places(layer, flow, thin, origin))
    removed = frozenset(roles(flow)) - set(origin.values())
    _check(module, small, flow, removed, size)
    return Compacted(small, changed, removed)


def _match(
    large: Mapping[int, Role], small: Mapping[int, Role], score: Mapping[int, float]
) -> dict[int, int]:
    """Root in the small network -> the root of the channel that takes its place."""
    there, slots = defaultdict[Role, list[int]](list), defaultdict[Role, list[int]](list)
    for found, table in ((large, there), (small, slots)):
        for root in sorted(found):
            table[found[root]].append(root)
    origin: dict[int, int] = {}
    for role, places in slots.items():
        candidates = sorted(there[role], key=lambda root: (-score.get(root, 0.0), root))
        if len(places) > len(candidates):
            layers = frozenset(layer for (layer, _, _), _ in role)
            raise Unfit(f"{len(places)} places for {len(candidates)} channels", layers)
        origin |= dict(zip(places, sorted(candidates[: len(places)]), strict=True))
    return origin


@dataclass(frozen=True, slots=True)
class _Places:
    """Which of a large layer's channels a small one's are."""

    outs: Tensor
    ins: Tensor | None


def _places(layer: str, flow: Flow, thin: Flow, origin: Mapping[int, int]) -> _Places:
    def old(table: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> Tensor:
        waiting = defaultdict[int, list[int]](list)
        for place, root in enumerate(flow.roots(table[layer])):
            waiting[root].append(place)
        return torch.tensor([waiting[origin[root]].pop(0) for root in thin.roots(new[layer])])

    ins = old(flow.ins, thin.ins) if layer in flow.ins else None
    return _Places(old(flow.outs, thin.outs), ins)


@torch.no_grad()
def _fill(layer: str, module: nn.Module, small: nn.Module, flow: Flow, at: _Places) -> None:
    """Copy one layer's weights and statistics."""
    large, part = module.get_submodule(layer), small.get_submodule(layer)
    tensors = [*large.named_parameters(recurse=False), *large.named_buffers(recurse=False)]
    for name, tensor in tensors:
        if tensor.dim() == 0:  # how many batches it has seen
            continue
        kept = tensor[at.outs.to(tensor.device)]
        if name == "weight" and at.ins is not None:
            kept = _columns(kept, at.ins.to(tensor.device), flow.groups.get(layer, 1))
        getattr(part, name).copy_(kept)


def _columns(weight: Tensor, ins: Tensor, groups: int) -> Tensor:
    """The columns of `ins`, which counts over all groups, in each group's rows."""
    per = weight.shape[1]
    parts = zip(weight.chunk(groups), ins.chunk(groups), strict=True)
    return torch.cat([rows[:, chosen % per] for rows, chosen in parts])


@torch.no_grad()
def masked(module: nn.Module, flow: Flow, removed: Iterable[int]) -> nn.Module:
    """A copy of which these channels are zero, from where they are made to where they are taken.

    Args:
        module: as `flow` was made of.
        flow: what flows in it.
        removed: roots of channels.
    """
    silent, gone = copy.deepcopy(module).eval(), set(removed)
    for layer, labels in flow.outs.items():
        off = torch.tensor([root in gone for root in flow.roots(labels)])
        part = silent.get_submodule(layer)
        for name in ("weight", "bias", "running_mean"):  # a batch norm without gamma has its mean
            tensor = getattr(part, name, None)
            if isinstance(tensor, Tensor) and not isinstance(part, nn.PReLU):
                tensor[off.to(tensor.device)] = 0
    return silent


def _check(
    module: nn.Module, small: nn.Module, flow: Flow, removed: frozenset[int], size: tuple[int, int]
) -> None:
    """Hold the small network to the masked one, on noise."""
    parameter = next(module.parameters())
    noise = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(parameter)
    with torch.inference_mode():
        wanted, found = masked(module, flow, removed)(noise), small(noise)
    if not torch.allclose(wanted, found, rtol=0, atol=1e-3 * float(wanted.abs().max()) + 1e-9):
        raise SpecError(
            "the network without the pruned channels does not answer as the one where they are "
            f"zero: they differ by {float((wanted - found).abs().max()):.2g} of "
            f"{float(wanted.abs().max()):.2g}; something in its forward() is not understood: name "
            "the layers around it in 'keep', or prune weights instead (method = 'magnitude')"
        )
