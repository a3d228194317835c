"""The teacher: a trained network, adapted to the recipe's classes, that labels every view."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgekit import checkpoint
from edgekit.errors import SpecError
from edgekit.learn.data import Images
from edgekit.learn.recipe import Recipe
from edgekit.learn.train import Lesson, Progress, to_planes, train
from edgekit.learn.views import Views, render
from edgekit.lower.network import fold_batch_norm, load_weights
from edgekit.plugins import architecture


def load(recipe: Recipe) -> nn.Module:
    """Build the teacher, load its weights, keep of its last layer the outputs of our classes.

    Raises:
        UnknownName, CheckpointError: no such architecture; weights that do not fit it.
        SpecError: the last layer is not linear, or has fewer outputs than the recipe names.
    """
    choice, weights = recipe.teacher.model, recipe.teacher.weights
    module: nn.Module = architecture(choice.architecture)(**choice.arguments)
    fold_batch_norm(load_weights(module, checkpoint.read(weights).tensors, str(weights)))
    name, last = list(module.named_modules())[-1]
    if not isinstance(last, nn.Linear):
        raise SpecError(
            f"a teacher's last layer must be linear; that of '{choice.architecture}' is "
            f"{type(last).__name__}: choose another architecture in [teacher.model]"
        )
    rows = [spec.teacher for spec in recipe.classes]
    if max(rows) >= last.out_features:
        raise SpecError(
            f"'classes.teacher' names output {max(rows)}, but {weights} has {last.out_features}, "
            "counted from 0"
        )
    head = nn.Linear(last.in_features, len(rows))
    with torch.no_grad():
        head.weight.copy_(last.weight[rows])
        head.bias.copy_(last.bias[rows])
    module.set_submodule(name, head)
    return module


def adapt(
    recipe: Recipe,
    module: nn.Module,
    images: Images,
    views: Views,
    path: Path,
    watch: Callable[[Progress, nn.Module], None],
) -> nn.Module:
    """Train the teacher on the true labels; returns the moving average, in eval mode."""
    teacher, classes = recipe.teacher, len(recipe.classes)
    wanted = np.full((len(images.targets), classes), teacher.smoothing / classes, np.float32)
    wanted[np.arange(len(wanted)), images.targets] += 1 - teacher.smoothing
    count = views.mirror.shape[1]
    answers = np.broadcast_to(wanted[:, None], (len(wanted), count, classes))  # takes no memory
    lesson = Lesson(images.pixels, views, answers, 1.0, recipe.image)
    return train(module, lesson, teacher.schedule, recipe.seed, path, watch)


def label(
    recipe: Recipe,
    module: nn.Module,
    images: Images,
    views: Views,
    watch: Callable[[Progress, nn.Module], None],
    batch: int = 100,
) -> np.ndarray:
    """The teacher's answer to every view, mixed with the true label: (N, K, classes) float16."""
    teacher = recipe.teacher
    count, kinds = views.mirror.shape
    answers = np.empty((count, kinds, len(recipe.classes)), np.float16)
    for start in range(0, count, batch):
        index = np.arange(start, min(start + batch, count))
        for k in range(kinds):
            pixels = render(images.pixels, views, index, np.full(len(index), k), teacher.size)
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                logits = module(to_planes(pixels, recipe.image)).float()
            soft = (logits / teacher.temperature).softmax(1).numpy() * (1 - teacher.hard)
            soft[np.arange(len(index)), images.targets[index]] += teacher.hard
            answers[index, k] = soft
        watch(Progress(1, start // batch + 1, -(-count // batch), 0.0), module)
    return answers
