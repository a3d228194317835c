"""Why a run went astray: the step is computed once more, with an eye on every layer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.learn.data.batch import Batch
from edgekit.learn.train.lesson import Lesson
from edgekit.learn.train.look import FAR, LONG, Unsound
from edgekit.learn.train.place import Place
from edgekit.learn.train.state import State
from edgekit.learn.train.step import autocast, parts, reseed


def explain(found: Unsound, now: State, batch: Batch, lesson: Lesson, place: Place) -> str:
    """What went wrong in the step of `batch`, in which layer, and what to do about it.

    The weights must still be as they were before the step. Their gradients are lost.
    """
    point, how = found.point, lesson.how
    epoch, step = divmod(point.done - 1, lesson.batches.steps)
    reseed(lesson.seed, point.done - 1, place.rank)
    where = f"in step {step + 1} of epoch {epoch + 1}"
    if found.diverged:
        return (
            f"training diverged: the loss is {point.loss:.4g} {where}, and was more than {FAR:.0f} "
            f"times that of guessing and of the start in each of the last {LONG} steps; "
            f"{_largest(now, batch, lesson, place)}; lower learning_rate (it is "
            f"{how.peak_rate:.4g}), lengthen the warm-up, or set clip_norm"
        )
    numbers = f"the loss is {point.loss:.4g} and the gradient's norm {point.norm:.4g} {where}"
    return f"{numbers}: {_first_layer(now, batch, lesson, place)}"


def _first_layer(now: State, batch: Batch, lesson: Lesson, place: Place) -> str:
    """Where the first number that is not finite comes from."""
    how = lesson.how
    lower = (
        f"lower learning_rate (it is {how.peak_rate:.4g}), lengthen the warm-up, or set clip_norm"
    )
    if how.precision == "fp16":
        lower = f"use precision = 'bf16' or 'fp32', or {lower}"
    for name, value in now.module.state_dict().items():
        if not _finite(value):
            return f"the tensor '{name}' was no longer finite before that step; {lower}"
    now.optimiser.zero_grad(set_to_none=True)
    for part in parts(batch, lesson, place):
        if not _finite(part.inputs):
            return "the images are not finite numbers; see 'image.std', which divides them"
        with _watching(now.module, _not_finite) as layers, autocast(how, place):
            loss = lesson.objective.loss(now.module, part)
        if layers:
            return f"the first layer whose output is not finite is {layers[0]}; {lower}"
        penalty = lesson.rules.penalty(now.module)
        loss = loss if penalty is None else loss + penalty
        if not _finite(loss):
            return (
                "the outputs of all layers are finite, the loss alone is not: see the teachers' "
                f"answers, temperature and penalties; {lower}"
            )
        loss.backward()
    for name, weight in reversed(list(now.module.named_parameters())):
        if weight.grad is not None and not _finite(weight.grad):
            return (
                "the loss is finite, its gradient is not, from the output down to the first time "
                f"in '{name}'; {lower}"
            )
    return f"it was not met again when the step was computed once more; {lower}"


def _largest(now: State, batch: Batch, lesson: Lesson, place: Place) -> str:
    """Which layer's output has the largest number."""
    part = parts(batch, lesson, place)[0]
    with _watching(now.module, _peak) as layers, autocast(lesson.how, place), torch.no_grad():
        lesson.objective.loss(now.module, part)
    peak, _, name = max((text.partition(" ") for text in layers), key=lambda said: float(said[0]))
    return f"the largest output is {float(peak):.3g}, of {name}"


@contextmanager
def _watching(
    module: nn.Module, says: Callable[[str, nn.Module, Tensor], str]
) -> Iterator[list[str]]:
    """While the block lasts, what `says` has to say of each output, in the order of computation."""
    said: list[str] = []
    hooks = []
    for name, inner in module.named_modules():
        if not any(inner.children()) or inner is module:
            hooks.append(inner.register_forward_hook(_hook(name, says, said)))
    try:
        yield said
    finally:
        for hook in hooks:
            hook.remove()


def _hook(
    name: str, says: Callable[[str, nn.Module, Tensor], str], said: list[str]
) -> Callable[..., None]:
    def look(layer: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and (text := says(name, layer, output)):
            said.append(text)

    return look


def _not_finite(name: str, layer: nn.Module, output: Tensor) -> str:
    return "" if _finite(output) else _called(name, layer)


def _peak(name: str, layer: nn.Module, output: Tensor) -> str:
    return f"{output.detach().abs().max().item()} {_called(name, layer)}"


def _called(name: str, layer: nn.Module) -> str:
    return f"'{name}' ({type(layer).__name__})" if name else "the network's own"


def _finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(torch.isfinite(value).all())
