"""Which channels go, so that a network comes to so many MACs, or parameters: the least first."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import nn

from edgekit.cost.layers import LayerCost, cost
from edgekit.errors import SpecError
from edgekit.learn.prune.channels.compact import Compacted, Setting, Unfit, compact
from edgekit.learn.prune.channels.graph import Flow, follow
from edgekit.learn.prune.channels.groups import Dial, dials
from edgekit.learn.recipe.steps import PruneStep
from edgekit.spec import ImageSpec

CLOSE = 0.03
"""A target that cannot be met within this share of the whole is refused."""
Unit: TypeAlias = Literal["macs", "parameters"]
"""What a network is to have fewer of."""
TRIES = 200
"""Settings of tied channels that may turn out not to go together."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """A network that can be pruned, and how much each of its channels matters."""

    module: nn.Module
    image: ImageSpec
    flow: Flow
    dials: tuple[Dial, ...]
    layers: tuple[LayerCost, ...]
    score: Mapping[int, float]
    """By the root of a channel's label."""
    unit: Unit = "macs"

    @property
    def whole(self) -> int:
        """What the convolutions and linear layers have of `unit`."""
        return sum(_of(layer, self.unit) for layer in self.layers)


def unit_of(step: PruneStep) -> Unit:
    """What a step counts: parameters where it says so, else MACs, for a latency, too."""
    return "parameters" if step.parameters else "macs"


def weighed(module: nn.Module, image: ImageSpec, unit: Unit) -> int:
    """MACs, or parameters, of a network's convolutions and linear layers."""
    return sum(_of(layer, unit) for layer in cost(module, image).layers)


def candidates(
    module: nn.Module, image: ImageSpec, step: PruneStep, flow: Flow, score: Mapping[int, float]
) -> Candidates:
    """What of a network can be pruned; channels without a score stay.

    Raises:
        SpecError: nothing can.
    """
    turning = dials(flow, step.keep, step.least, step.round_to)
    told = tuple(dial for dial in turning if all(root in score for root in dial.channels))
    if not told:
        raise SpecError(
            f"step '{step.name}' finds no channels to prune: all are kept by 'keep' {step.keep}, "
            f"or no layer is wider than round_to = {step.round_to} channels; lower round_to"
        )
    return Candidates(module, image, flow, told, cost(module, image).layers, score, unit_of(step))


def prune_to(found: Candidates, left: float) -> Compacted:
    """Prune to `left` of the MACs or parameters, a fraction in (0, 1).

    Raises:
        SpecError: so few cannot be reached; says how few can.
    """
    return fit_together(found, lambda turning: choose(found, turning, left))


def fit_together(found: Candidates, pick: Callable[[Sequence[Dial]], Setting]) -> Compacted:
    """Compact by what `pick` sets dials to; asked again, with fewer levels, where it did not fit.

    Raises:
        SpecError: nothing fits.
    """
    turning, size = list(found.dials), (found.image.height, found.image.width)
    for _ in range(TRIES):
        setting = pick(turning)
        try:
            return compact(found.module, found.flow, turning, setting, found.score, size)
        except Unfit as unfit:
            at = _culprit(turning, setting, unfit)
            levels = tuple(level for level in turning[at].levels if level != setting[at])
            turning[at] = turning[at].with_levels(levels)
    raise SpecError(
        "no widths were found that go together in this network's splits and shuffles; name the "
        "layers of some in 'keep'"
    )


def choose(found: Candidates, turning: Sequence[Dial], left: float) -> list[int]:
    """A level for each dial, so that `left` of the MACs or parameters stay: global ranking.

    A dial's next step down costs the mean score of the channels that go with it. Steps are taken
    in the order of what they cost, until the target is met; those that would lead far below it are
    left out.

    Raises:
        SpecError: so few cannot be reached; says how few can.
    """
    setting = [dial.levels[0] for dial in turning]
    goal = left * found.whole
    passed: set[int] = set()
    for _, at, level in _steps(found, turning):
        if count(found, turning, setting) <= goal:
            break
        if at in passed:
            continue
        tried = [*setting[:at], level, *setting[at + 1 :]]
        if count(found, turning, tried) < goal * (1 - CLOSE / 3):
            passed.add(at)
        else:
            setting = tried
    reached = count(found, turning, setting) / found.whole
    if reached > left + CLOSE:
        kind = {"macs": "MACs"}.get(found.unit, found.unit)
        raise SpecError(
            f"{left:.0%} of the {kind} cannot be reached: {reached:.0%} are the nearest that the "
            f"layers in 'keep', 'least' and 'round_to' leave; ask for more {kind}, or lower those"
        )
    return setting


def _steps(found: Candidates, turning: Sequence[Dial]) -> list[tuple[float, int, int]]:
    """(cost, dial, level) of each step down, the cheapest first; a dial's own are in order."""
    steps = []
    for at, dial in enumerate(turning):
        ordered = sorted(found.score[root] for root in dial.channels)
        count, dearest = len(ordered), 0.0
        for before, level in zip(dial.levels, dial.levels[1:], strict=False):
            gone = slice(count - count * before // dial.size, count - count * level // dial.size)
            lost = ordered[gone]
            dearest = max(dearest, sum(lost) / max(len(lost), 1))
            steps.append((dearest, at, level))
    return sorted(steps, key=lambda step: (step[0], step[1], -step[2]))


def count(found: Candidates, turning: Sequence[Dial], setting: Sequence[int]) -> int:
    """Multiply-accumulates, or parameters, of the network with its dials set so."""
    less_out: dict[str, int] = {}
    less_in: dict[str, int] = {}
    for dial, level in zip(turning, setting, strict=True):
        for less, counts in ((less_out, dial.outs), (less_in, dial.ins)):
            for layer, number in counts.items():
                less[layer] = less.get(layer, 0) + number - number * level // dial.size
    total = 0
    for each in found.layers:
        share = 1.0
        if (outs := found.flow.outs.get(each.name)) is not None:
            share *= 1 - less_out.get(each.name, 0) / len(outs)
        if (ins := found.flow.ins.get(each.name)) is not None:
            share *= 1 - less_in.get(each.name, 0) / len(ins)
        total += round(_of(each, found.unit) * share)
    return total


def _of(layer: LayerCost, unit: Unit) -> int:
    return layer.macs if unit == "macs" else layer.parameters


def _culprit(turning: Sequence[Dial], setting: Sequence[int], unfit: Unfit) -> int:
    """The dial that is to be set otherwise."""
    turned = [at for at, dial in enumerate(turning) if setting[at] < dial.size]
    tied = [at for at in turned if turning[at].size < len(turning[at].channels)] or turned
    named = [at for at in tied if unfit.layers & set(turning[at].outs)]
    return (named or tied)[0]


def flow_of(module: nn.Module, image: ImageSpec) -> Flow:
    """What flows through a network on images of its contract's size."""
    return follow(module, (image.height, image.width))
