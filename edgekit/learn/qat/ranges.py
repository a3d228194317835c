"""The ranges of a network's activations while it learns for int8: watched, made exact, frozen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from edgekit.checkpoint import Range
from edgekit.learn.qat.activation import LARGEST, LEAST, Activation, as_bits
from edgekit.learn.recipe.steps import QuantizeStep
from edgekit.lower.int8.exact import settle_activations
from edgekit.lower.int8.observers import DICTATED, EPS
from edgekit.lower.int8.ranges import names, set_range
from edgekit.spec import Scheme

MOMENTUM = 0.05
"""Of a step's least and largest value in their moving averages."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the int8 graph quantises, and which `Activation` that is."""

    graph: fx.Graph
    """The one that the build would make, its scales not exact; written to."""
    of: Mapping[fx.Node, int]
    """Each quantize_per_tensor node -> the activation's number."""
    scheme: Scheme

    def present(self) -> dict[int, Range]:
        """What the graph has now."""
        return {number: _read(node) for node, number in self.of.items()}

    def settle(self, wanted: Mapping[int, Range]) -> dict[int, Range]:
        """Ranges that are exact and cover those that are `wanted`, all by their numbers."""
        for node, number in self.of.items():
            set_range(node, wanted[number])
        settle_activations(self.graph, DICTATED)
        return self.present()

    def named(self, ranges: Mapping[int, Range]) -> dict[str, Range]:
        """By the names of the card."""
        return {name: ranges[self.of[node]] for node, name in names(self.graph).items()}


def _read(node: fx.Node) -> Range:
    scale, zero = node.args[1:3]
    assert isinstance(scale, float)
    assert isinstance(zero, int)
    return Range(scale, zero)


def covering(low: float, high: float, scheme: Scheme) -> Range:
    """The least steps that cover `low` to `high` and zero; as torchao's observers have them."""
    low, high = min(low, 0.0), max(high, 0.0)
    if scheme == "symmetric":
        return Range(max(max(-low, high) / ((LARGEST - LEAST) / 2), EPS), 0)
    scale = max((high - low) / (LARGEST - LEAST), EPS)
    return Range(scale, min(LARGEST, max(LEAST, LEAST - round(low / scale))))


def activations(module: nn.Module) -> list[Activation]:
    """Those of a network, each once."""
    return [part for part in module.modules() if isinstance(part, Activation)]


def read(module: nn.Module) -> dict[int, Range]:
    """What each stands for, by number."""
    return {part.number: Range(*part.numbers()) for part in activations(module)}


@torch.no_grad()
def write(parts: Sequence[Activation], ranges: Mapping[int, Range]) -> None:
    """Let each stand for something else."""
    bits = [as_bits(ranges[p.number].scale, ranges[p.number].zero_point) for p in parts]
    moved = torch.tensor(bits, dtype=torch.int32).to(parts[0].bits.device)
    torch._foreach_copy_([part.bits for part in parts], list(moved))


class Schedule:
    """When ranges and batch norm are frozen; until then ranges follow what is seen (`Rules`)."""

    def __init__(self, step: QuantizeStep, places: Places) -> None:
        self._step, self._places = step, places
        self._observing = False

    def begin_epoch(self, module: nn.Module, epoch: int, epochs: int) -> None:
        self._observing = epoch < self._step.freeze_observers * epochs
        for part in module.modules():
            if isinstance(part, Activation):
                part.observing = self._observing and not part.fixed
            elif (
                isinstance(part, nn.BatchNorm2d) and epoch >= self._step.freeze_batch_norm * epochs
            ):
                part.eval()

    def penalty(self, module: nn.Module) -> Tensor | None:
        return None

    @torch.no_grad()
    def after_step(self, module: nn.Module) -> None:
        """Let the ranges follow the step's least and largest values, and make them exact."""
        if not self._observing:
            return
        parts = activations(module)
        free = [part for part in parts if not part.fixed]
        seen = torch.stack([part.seen for part in free])
        _over_processes(seen)
        reach = [part.reach for part in free]
        seen = torch.where(seen.isfinite(), seen, torch.stack(reach))
        torch._foreach_lerp_(reach, list(seen), MOMENTUM)
        empty = torch.tensor([torch.inf, -torch.inf], device=seen.device)
        torch._foreach_copy_([part.seen for part in free], [empty] * len(free))
        ends = torch.stack([p.reach * p.share for p in free]).tolist()
        wanted = read(module)
        for part, (low, high) in zip(free, ends, strict=True):
            wanted[part.number] = covering(low, high, self._places.scheme)
        write(parts, self._places.settle(wanted))


def _over_processes(seen: Tensor) -> None:
    """The least and largest values of all processes of a run, in place; (n, 2)."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        both = torch.stack((-seen[:, 0], seen[:, 1]))
        torch.distributed.all_reduce(both, torch.distributed.ReduceOp.MAX)
        seen.copy_(torch.stack((-both[0], both[1]), dim=1))
