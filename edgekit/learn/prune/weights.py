"""Weights pruned in rounds: by magnitude, after an L1 penalty, n of m, or as a lottery ticket.

A round is: find the masks from what the round before came to, then train with them. What a round
begins with is a file, `round-N.safetensors`; the last one that is there is where an interrupted
step goes on, and within the round its training does.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor, nn

from edgekit.errors import SpecError
from edgekit.learn.prune import start as starts
from edgekit.learn.prune.masks import Masks, both, emptied, prunable, pruned_before, sparsity
from edgekit.learn.prune.rank import equal_shares, largest, n_of_m
from edgekit.learn.prune.rules import Held, Remember, Shrink
from edgekit.learn.prune.start import Start
from edgekit.learn.recipe.steps import PruneStep
from edgekit.learn.teach import teach
from edgekit.learn.train.objective import Rules
from edgekit.learn.work import Student, Work

_REWIND = "rewind.safetensors"


@dataclass(frozen=True, slots=True)
class Rounds:
    """The rounds of a step."""

    step: PruneStep
    work: Work
    student: Student
    """As it was when the step began; only read."""
    left: tuple[float, ...]
    """What each round leaves, as a fraction of all weights that may be pruned."""

    @property
    def rewinds(self) -> bool:
        return self.step.method == "lottery"

    @property
    def first(self) -> int:
        """The epoch (from 0) that the training of a round begins with."""
        return self.step.rewind_epoch if self.rewinds else 0


def rounds_of(step: PruneStep, student: Student, work: Work) -> Rounds:
    """The step's rounds: equal shares of what is left."""
    return Rounds(step, work, student, equal_shares(step.sparsity, step.rounds))


def prune_weights(step: PruneStep, student: Student, work: Work) -> Student:
    """Prune by `magnitude`, `l1` or `n:m`: the student with exact zeros, trained on.

    Raises:
        SpecError: nothing can be pruned. UnknownName: `keep` matches no layer.
        CheckpointError: a file of an interrupted run is damaged.
    """
    rounds = rounds_of(step, student, work)
    return replace(student, module=trained(rounds, step.rounds))


def trained(rounds: Rounds, number: int) -> nn.Module:
    """The network as round `number`, from 1, leaves it; round 0 leaves the dense one."""
    return _finish(rounds, number, begin(rounds, number)) if number else _dense(rounds)


def begin(rounds: Rounds, number: int) -> Start:
    """What round `number`, from 1, begins with: read, or found from the rounds before."""
    path, place = rounds.work.folder / f"round-{number}.safetensors", rounds.work.place
    if place.peers.first(path.exists):
        return starts.read(path)
    if number > 1:
        last = begin(rounds, number - 1)
        gone, before = dict(last.masks), _finish(rounds, number - 1, last)
    else:
        gone, before = pruned_before(rounds.student), _dense(rounds)
    masks = both(gone, _masks(rounds, before, number, gone))
    start = Start(masks, _rewound(rounds) if rounds.rewinds else starts.snapshot(before))
    if place.leads:
        starts.write(path, start)
    place.peers.each("written")
    return start


def _finish(rounds: Rounds, number: int, start: Start) -> nn.Module:
    return train(rounds, start, f"round-{number}", rounds.first)


def train(rounds: Rounds, start: Start, task: str, first: int) -> nn.Module:
    """Train from these weights, with these masks."""
    module = copy.deepcopy(rounds.student.module)
    module.load_state_dict(dict(start.weights))
    with Held(module, start.masks) as held:
        return _teach(rounds, module, held, task, first)


def _masks(rounds: Rounds, module: nn.Module, number: int, gone: Masks) -> Masks:
    step, line = rounds.step, rounds.work.watch.line
    weights = prunable(module, step.keep)
    if step.method == "n:m":
        masks, dense = n_of_m(weights, step.n, step.m)
        if dense:
            line(f"input channels are no multiple of {step.m}, stay dense: {', '.join(dense)}")
        if not masks:
            raise SpecError(
                f"step '{step.name}': no layer's input channels are a multiple of {step.m}"
            )
    else:
        masks = largest(weights, rounds.left[number - 1], step.scope == "global", gone)
    line(f"round {number}: {sparsity(masks):.2%} of the weights of {len(masks)} layers are zero")
    if empty := emptied(masks):
        line(f'nothing is left of {", ".join(empty)}: try scope = "layer", or keep them')
    return masks


def _dense(rounds: Rounds) -> nn.Module:
    """What the first masks are found from."""
    step, module = rounds.step, copy.deepcopy(rounds.student.module)
    if step.method == "l1":
        weights = prunable(module, step.keep).values()
        return _teach(rounds, module, Shrink(weights, step.penalty), "shrink", 0)
    if rounds.rewinds:
        remember = Remember(step.rewind_epoch, partial(_remember, rounds))
        return _teach(rounds, module, remember, "dense", 0)
    return module


def _remember(rounds: Rounds, module: nn.Module) -> None:
    """Keep the weights to come back to; an epoch that is begun again has changed them."""
    path = rounds.work.folder / _REWIND
    if rounds.work.place.leads and not path.exists():
        starts.write(path, Start({}, starts.snapshot(module)))


def _rewound(rounds: Rounds) -> Mapping[str, Tensor]:
    path = rounds.work.folder / _REWIND
    if not path.exists():
        raise SpecError(
            f"step '{rounds.step.name}': training stopped before rewind_epoch "
            f"{rounds.step.rewind_epoch}; lower it, or raise fit.patience"
        )
    return starts.read(path).weights


def _teach(rounds: Rounds, module: nn.Module, rules: Rules, task: str, first: int) -> nn.Module:
    step, work = rounds.step, rounds.work
    before = rounds.student.module
    return teach(module, step.fit, step.distill, work, before, rules, task, first).module
