"""The step `prune`."""

from edgekit.learn.recipe.steps import PruneStep
from edgekit.learn.work import Student, Work


def prune(step: PruneStep, student: Student, work: Work) -> Student:
    """Prune by the step's method, and train on."""
    raise NotImplementedError
