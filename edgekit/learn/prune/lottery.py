"""The lottery ticket: iterative magnitude pruning with rewinding, and its controls.

Paper: "The Lottery Ticket Hypothesis" (Frankle and Carbin, 2019), https://arxiv.org/abs/1803.03635;
rewinding to an epoch: "Linear Mode Connectivity and the Lottery Ticket Hypothesis" (Frankle et al.,
2020), https://arxiv.org/abs/1912.05671, algorithm 2.

The network is trained dense, and its weights when epoch k began are kept. Each round prunes by the
magnitude of the trained weights, sets those that survive back to what they were at epoch k, and
trains them from there: with the learning rate and the images of the epochs from k on. Of the
optimiser nothing is kept: it begins anew, as in the paper.
"""

from dataclasses import replace

from torch import nn

from edgekit.errors import SpecError
from edgekit.learn.first import built
from edgekit.learn.prune import start as starts
from edgekit.learn.prune.rank import shuffled
from edgekit.learn.prune.start import Start
from edgekit.learn.prune.weights import Rounds, begin, rounds_of, train, trained
from edgekit.learn.recipe.steps import PruneStep
from edgekit.learn.work import Student, Work
from edgekit.lower.widths import apply_widths

ANOTHER_SEED = 1 << 32
"""Added to a recipe's seed where a control draws anew."""


def draw_ticket(step: PruneStep, student: Student, work: Work) -> Student:
    """Find the ticket and train it; with `reinitialise` or `shuffle`, train a control instead.

    Raises:
        SpecError: nothing can be pruned, or no weights can be drawn.
        UnknownName: `keep` matches no layer.
        CheckpointError: a file of an interrupted run is damaged.
    """
    rounds = rounds_of(step, student, work)
    controls = step.reinitialise or step.shuffle
    module = control(rounds, step.rounds) if controls else trained(rounds, step.rounds)
    return replace(student, module=module)


def control(rounds: Rounds, number: int) -> nn.Module:
    """Round `number` with one thing of the ticket destroyed.

    `reinitialise`: its masks on new random weights, which train from epoch 0, for all epochs, as a
    network that begins: that is `rewind_epoch` more than the ticket has. `shuffle`: as many weights
    in each layer at random places, with the ticket's values and its epochs.
    """
    step, work = rounds.step, rounds.work
    start, name, first = begin(rounds, number), f"control-{number}", rounds.first
    if step.shuffle:
        start = replace(start, masks=shuffled(start.masks, work.seed + ANOTHER_SEED))
        name += "-shuffled"
    if step.reinitialise:
        start, first = Start(start.masks, starts.snapshot(_fresh(rounds))), 0
        name += "-reinitialised"
    return train(rounds, start, name, first)


def _fresh(rounds: Rounds) -> nn.Module:
    """The network with other random weights than the recipe's seed gives."""
    head = rounds.work.recipe.head
    model = replace(head.model, weights="")
    head = replace(head, model=model, seed=head.seed + ANOTHER_SEED)
    module = built(replace(rounds.work.recipe, head=head), rounds.work.data.classes)
    apply_widths(module, rounds.student.widths)
    if module.state_dict().keys() != rounds.student.module.state_dict().keys():
        raise SpecError(
            f"step '{rounds.step.name}': reinitialise needs the network as its architecture builds "
            "it, but batch norm was folded; draw the lottery before that"
        )
    return module
