"""The step `quantize`."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from edgekit.learn.data.source import Images
from edgekit.learn.evaluate import accuracy
from edgekit.learn.prune.masks import pruned_before, zeros
from edgekit.learn.prune.rules import Held
from edgekit.learn.qat.graph import Learner, learner, tensors
from edgekit.learn.qat.ranges import Schedule, read
from edgekit.learn.qat.start import Start, start
from edgekit.learn.recipe.steps import QuantizeStep
from edgekit.learn.teach import teach
from edgekit.learn.train.objective import Together
from edgekit.learn.work import Student, Work
from edgekit.lower.calibrate import spaced, to_input
from edgekit.lower.gate.hold import one_thread, quiet
from edgekit.lower.network import fold_batch_norm
from edgekit.spec import ImageSpec

CALIBRATION = 64
"""Training images that the first ranges are measured on, evenly spaced."""


def quantize(step: QuantizeStep, student: Student, work: Work) -> Student:
    """Train with the int8 program's rounding in the forward pass.

    Args:
        step: what to do.
        student: the float network; it stays as it is, and may be the teacher `before`.
        work: what the steps share.

    Returns:
        The student with its batch norm folded, its weights in float, and the ranges with which a
        build in int8 makes of them the integers that training ended with; its accuracy is theirs.

    Raises:
        SpecError: PyTorch cannot export the network, or the loss is no longer a number.
        UnknownName: a layer to be kept in float is not there.
    """
    images = calibration(work.data.train, work.image)
    begun, learns = prepared(student.module, images, step, work.image)
    zero = zeros(learns.module) if pruned_before(student) else {}  # by the learner's own names
    with Held(learns.module, zero) as held:
        rules = Together(held, Schedule(step, learns.places))
        fitted = teach(learns.module, step.fit, step.distill, work, student.module, rules)
    found = accuracy(fitted.module, work.data.validation, work.image)
    return finished(begun, learns, fitted.module, replace(student, accuracy=found), step)


@one_thread()
def prepared(
    module: nn.Module, images: Sequence[Tensor], step: QuantizeStep, image: ImageSpec
) -> tuple[Start, Learner]:
    """What learns; on each machine the same, so that a run can go on elsewhere."""
    with quiet():
        begun = start(module, image, images)
        return begun, learner(begun, image, images, step.scheme, step.keep_float)


def finished(
    begun: Start, learns: Learner, module: nn.Module, student: Student, step: QuantizeStep
) -> Student:
    """The student that `module`, a copy of what learned, has become."""
    base = begun.base.cpu()
    base.load_state_dict(tensors(learns, module), strict=False)
    ranges = learns.places.named(read(module))
    folded = fold_batch_norm(base)
    return replace(student, module=folded, ranges=ranges, keep_float=step.keep_float)


def calibration(images: Images, image: ImageSpec) -> list[Tensor]:
    """Some training images, (1, H, W, 3) uint8 each, made by the image contract."""
    chosen = spaced(range(len(images)), CALIBRATION)
    return [torch.from_numpy(to_input(images.pixels[i], image)) for i in chosen]
