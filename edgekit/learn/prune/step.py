"""The step `prune`."""

from edgekit.learn.prune.lottery import draw_ticket
from edgekit.learn.prune.weights import prune_weights
from edgekit.learn.recipe.steps import PruneStep
from edgekit.learn.work import Student, Work


def prune(step: PruneStep, student: Student, work: Work) -> Student:
    """Prune by the step's method, and train on.

    Raises:
        SpecError, UnknownName: the step does not fit the network.
        CheckpointError: a file of an interrupted run is damaged.
        StorageError: the step's folder cannot be written.
    """
    if step.method == "channels":
        from edgekit.learn.prune.channels.step import prune_channels

        return prune_channels(step, student, work)
    if step.method == "lottery":
        return draw_ticket(step, student, work)
    return prune_weights(step, student, work)
