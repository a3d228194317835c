"""One run of the training loop for a step, whatever its kind."""

from torch import nn

from edgekit.learn.data.resident import Resident
from edgekit.learn.distil.objective import distilling
from edgekit.learn.evaluate import accuracy
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.recipe.steps import Distill
from edgekit.learn.train.loop import Fitted, Lesson, fit
from edgekit.learn.train.objective import Free, Labels, Rules
from edgekit.learn.watch import Watch
from edgekit.learn.work import Work


def teach(
    module: nn.Module,
    how: Fit,
    distill: Distill | None,
    work: Work,
    before: nn.Module,
    rules: Rules | None = None,
    task: str = "fit",
    first: int = 0,
) -> Fitted:
    """Train `module`, in place, on the recipe's data.

    Args:
        module: what learns.
        how: the run.
        distill: what teachers have to say; None: the labels alone.
        work: what the steps share.
        before: the network as it was when the step began: the teacher `before`.
        rules: what it is held to.
        task: names the run's files in the step's folder; one name for each run of a step.
        first: epoch (from 0) to begin with, where the first ones are not to be repeated.
    """
    head, place = work.recipe.head, work.place
    batches = Resident(work.data.train, head.augment, how.batch, head.seed, place.rank, place.world)
    objective = Labels() if distill is None else distilling(distill, work, before)
    lesson = Lesson(
        batches=batches,
        classes=len(work.data.classes),
        image=head.image,
        how=how,
        seed=head.seed,
        objective=objective,
        rules=rules or Free(),
        first=first,
    )

    def measure(average: nn.Module) -> float:
        return accuracy(average, work.data.validation, head.image, device=place.device)

    listener = Told(work.watch, f"{work.folder.name}: {task}", how)
    return fit(module, lesson, place, work.folder / f"{task}.state.pt", listener, measure)


class Told:
    """Passes on to a watch how far the loop is."""

    def __init__(self, watch: Watch, task: str, how: Fit) -> None:
        self._watch, self._task, self._epochs = watch, task, how.total_epochs

    def step(self, epoch: int, step: int, steps: int, loss: float, rate: float) -> None:
        self._watch.step(self._task, (epoch - 1) * steps + step, self._epochs * steps)

    def epoch(self, row: dict[str, float]) -> None:
        self._watch.line(
            f"{self._task}: epoch {row['epoch']:.0f}/{self._epochs}, loss {row['loss']:.3f}, "
            f"top-1 {row['top1']:.4f}, {row['images_per_s']:.0f} images/s"
        )
