"""The loss of a student that learns from teachers."""

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekit.checkpoint import replace_files
from edgekit.errors import InputError, SpecError
from edgekit.learn.distil.choice import Chosen, outputs_of
from edgekit.learn.distil.features import Imitation, captured
from edgekit.learn.distil.teachers import find
from edgekit.learn.distil.tutor import NetworkTutor, Tutor, camera_pixels, resized
from edgekit.learn.distil.views import answers_of, rendered
from edgekit.learn.recipe.steps import Distill, Feature, Teacher
from edgekit.learn.train.objective import Objective, Part
from edgekit.learn.work import Work
from edgekit.spec import ImageSpec

Source = Callable[[Part], Tensor]
"""What a teacher says of a part of a batch: (B, classes) float32 logits, on its device."""


def distilling(distill: Distill, work: Work, before: nn.Module, student: nn.Module) -> Objective:
    """Find the teachers, ask them where their answers are stored, and give the loss.

    Args:
        distill: the teachers, and how much they count.
        work: the step's.
        before: the network as the step began; copied where it is a teacher.
        student: what will learn, for the shapes of its layers.

    Raises:
        EdgekitError: a teacher cannot be had, or does not answer for the recipe's classes.
        UnknownName: a feature's layer that is not there.
    """
    sources: list[Source] = []
    imitation, digests = None, []
    for n, teacher in enumerate(distill.teachers):
        looked_at = distill.features if n == 0 else ()
        tutor = find(teacher, work, before, whole=bool(looked_at))
        chosen = _chosen(tutor, teacher, work)
        if teacher.source != "before":
            digests.append(tutor.digest)
            _claim(digests, teacher.source, work)
        if distill.cache:
            with closing(tutor):
                sources.append(partial(_looked_up, answers_of(chosen, distill, work)))
        else:
            sources.append(partial(_asked, chosen, work.image))
        if looked_at:
            imitation = _imitation(looked_at, tutor, student, work)
    work.place.peers.each("asked")  # processes on another disk may have asked for longer
    return Distilling(distill, sources, imitation)


class Distilling(nn.Module):
    """alpha * T^2 * KL(teachers at T || student at T) + (1 - alpha) * cross entropy + features."""

    def __init__(
        self,
        distill: Distill,
        sources: Sequence[Source],
        imitation: "tuple[Imitation, nn.Module] | None" = None,
    ) -> None:
        """`sources` in the order of the teachers; `imitation` with the first one's network.

        That network is no part of this module: it does not learn.
        """
        super().__init__()
        self._distill, self._sources, self._imitation = distill, sources, imitation
        self.learned = imitation[0] if imitation else None

    def loss(self, module: nn.Module, part: Part) -> Tensor:
        if self._imitation is None:
            return self._soft_loss(module(part.inputs), part)
        imitation, teacher = self._imitation
        features = self._distill.features
        with captured(module, [feature.student for feature in features]) as ours:
            logits = module(part.inputs)
        with captured(teacher, [feature.teacher for feature in features]) as theirs:
            loss = self._soft_loss(logits, part)
        return loss + imitation(ours, theirs)

    def _soft_loss(self, logits: Tensor, part: Part) -> Tensor:
        weights = [teacher.weight for teacher in self._distill.teachers]
        wanted = mean_answer(
            [source(part) for source in self._sources], weights, self._distill.temperature
        )
        return soft_loss(logits, wanted, part.answers, self._distill)


def mean_answer(logits: Sequence[Tensor], weights: Sequence[float], temperature: float) -> Tensor:
    """What several teachers say together: the weighted mean of their probabilities at T.

    Each (B, classes) -> (B, classes), summing to 1.
    """
    total = sum(weights)
    shares = (
        F.softmax(each.float() / temperature, dim=1) * (weight / total)
        for each, weight in zip(logits, weights, strict=True)
    )
    return torch.stack(list(shares)).sum(0)


def soft_loss(logits: Tensor, wanted: Tensor, labels: Tensor, distill: Distill) -> Tensor:
    """Add alpha * T^2 * KL(wanted || student at T) and (1 - alpha) * cross entropy(labels).

    Hinton et al., 2015, https://arxiv.org/abs/1503.02531, section 2: the gradient of the soft part
    goes with 1 / T^2, so T^2 keeps its share the same at any T.

    Args:
        logits: (B, classes) of the student.
        wanted: (B, classes) probabilities of the teachers, at T.
        labels: (B, classes) probabilities.
        distill: T and alpha.
    """
    logits, t = logits.float(), distill.temperature
    soft = F.kl_div(F.log_softmax(logits / t, dim=1), wanted, reduction="batchmean")
    return distill.alpha * t * t * soft + (1 - distill.alpha) * F.cross_entropy(logits, labels)


def _claim(digests: list[str], last: str, work: Work) -> None:
    """Mark a step's folder with its teachers: an interrupted run goes on with the same.

    `digests` are of those that were found so far, `last` is what the last one is called.
    """
    mark = work.folder / "teachers.txt"
    known = mark.read_text(encoding="utf-8").splitlines() if mark.exists() else []
    if known[: len(digests)] != digests[: len(known)]:
        raise InputError(
            f"{work.folder} was left by a run whose teacher '{last}' was another one; put that one "
            "back, give another folder with -o, or remove it"
        )
    if work.place.leads and len(digests) > len(known):
        replace_files({mark: "".join(f"{line}\n" for line in digests).encode()})


def _chosen(tutor: Tutor, teacher: Teacher, work: Work) -> Chosen:
    outputs = outputs_of(work.data.classes, tutor, teacher.outputs)
    few = np.arange(min(4, len(work.data.train)))
    probe = rendered(few, np.zeros_like(few), tutor.size, work)
    return Chosen(tutor, outputs, probe.to(work.place.device))


def _asked(chosen: Chosen, image: ImageSpec, part: Part) -> Tensor:
    """Ask about the student's own pixels, at the teacher's size."""
    return chosen.logits(resized(camera_pixels(part.inputs, image), chosen.tutor.size))


def _looked_up(logits: np.ndarray, part: Part) -> Tensor:
    found = torch.from_numpy(logits[part.index.cpu().numpy(), part.view.cpu().numpy()])
    return found.to(part.inputs.device).float()


def _imitation(
    features: Sequence[Feature], tutor: Tutor, student: nn.Module, work: Work
) -> tuple[Imitation, nn.Module]:
    """The features' loss, and the network that they are taken from."""
    if not isinstance(tutor, NetworkTutor):
        raise SpecError(
            f"teacher '{tutor.name}' runs in a runtime, which shows its answers alone; features "
            "need a first teacher that is a checkpoint or package.module:function"
        )
    blank = torch.zeros(1, 3, work.image.height, work.image.width)
    with torch.no_grad(), captured(student, [f.student for f in features]) as ours:
        training = student.training
        student.eval()(blank.to(next(student.parameters()).device))
        student.train(training)
    probe = torch.zeros(1, *tutor.size, 3, dtype=torch.uint8, device=work.place.device)
    with captured(tutor.module, [f.teacher for f in features]) as theirs:
        tutor.answer(probe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(work.seed)
        return Imitation(features, ours, theirs), tutor.module
