"""Which of a teacher's outputs are the recipe's classes, and whether they are logits."""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgekit.errors import SpecError
from edgekit.learn.distil.tutor import Tutor
from edgekit.learn.recipe.data import ClassSpec

IMAGENET = 1000
_LEAST = 1e-6
"""A probability of zero has no logarithm."""


def outputs_of(classes: Sequence[ClassSpec], tutor: Tutor, wanted: str) -> tuple[int, ...]:
    """The output of `tutor` that stands for each class.

    Args:
        classes: in the order of the student's outputs.
        tutor: the teacher.
        wanted: `classes`: the outputs with the classes' labels, where each of them is there once;
            else its outputs are the classes, in their order. `imagenet`: each class's `imagenet`
            of 1,000 outputs; of 1,001 (TensorFlow's: the first one is the background) the next.

    Raises:
        SpecError: it has too many or too few outputs, or a class has no place in ImageNet.
    """
    if wanted == "classes":
        labels = [spec.label for spec in classes]
        if all(tutor.labels.count(label) == 1 for label in labels):
            return tuple(tutor.labels.index(label) for label in labels)
        if tutor.outputs == len(classes):
            return tuple(range(len(classes)))
        hint = ', or outputs = "imagenet"' if tutor.outputs in (IMAGENET, IMAGENET + 1) else ""
        raise SpecError(
            f"teacher '{tutor.name}' has {tutor.outputs} outputs, the recipe {len(classes)} "
            f"classes; give a teacher of the same classes{hint}"
        )
    if tutor.outputs not in (IMAGENET, IMAGENET + 1):
        raise SpecError(
            f"teacher '{tutor.name}' has {tutor.outputs} outputs, which are not ImageNet's "
            f'{IMAGENET}; give outputs = "classes" if they are the recipe\'s'
        )
    for spec in classes:
        if not 0 <= spec.imagenet < IMAGENET:
            raise SpecError(
                f"class '{spec.label}' has no place in ImageNet, which teacher '{tutor.name}' "
                f"needs; state 'imagenet' (0 to {IMAGENET - 1}) for each class, see 'data.classes'"
            )
    return tuple(spec.imagenet + tutor.outputs - IMAGENET for spec in classes)


class Chosen:
    """A teacher, asked for the recipe's classes alone."""

    def __init__(self, tutor: Tutor, outputs: tuple[int, ...], probe: Tensor) -> None:
        """`probe`: (B, *tutor.size, 3) uint8, a few images that tell logits from probabilities."""
        self.tutor, self.outputs = tutor, outputs
        answers = tutor.answer(probe)
        sums = answers.sum(1)
        self._are_shares = bool((answers >= 0).all()) and bool(((sums - 1).abs() < 0.02).all())

    def logits(self, pixels: Tensor) -> Tensor:
        """(B, *tutor.size, 3) uint8 -> (B, classes) float32.

        Probabilities become their logarithms, which softmax turns back into them.
        """
        answers = self.tutor.answer(pixels)
        if self._are_shares:
            answers = answers.clamp_min(_LEAST).log()
        return answers[:, torch.tensor(self.outputs, device=answers.device)]
