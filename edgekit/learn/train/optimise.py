"""The optimiser, its learning rate, and the moving average of what it makes."""

import math

import torch
from torch import nn

from edgekit.learn.recipe.fit import Fit


def optimiser(module: nn.Module, how: Fit) -> torch.optim.Optimizer:
    """SGD with Nesterov's momentum, or AdamW; no weight decay for biases and batch norm."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": how.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if how.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=how.peak_rate, momentum=how.momentum, nesterov=how.momentum > 0
        )
    return torch.optim.AdamW(groups, lr=how.peak_rate)


def rate(epoch: float, how: Fit) -> float:
    """Learning rate at a moment in epochs: linear warm-up, then a cosine down to zero."""
    if epoch < how.warmup_epochs:
        return how.peak_rate * epoch / how.warmup_epochs
    done = (epoch - how.warmup_epochs) / max(how.total_epochs - how.warmup_epochs, 1e-9)
    return how.peak_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1)))


@torch.no_grad()
def follow(average: nn.Module, module: nn.Module, decay: float) -> None:
    """In place: average <- decay * average + (1 - decay) * module, with batch norm's statistics."""
    kept, new = average.state_dict(), module.state_dict()
    floats = [name for name, value in kept.items() if value.is_floating_point()]
    torch._foreach_lerp_([kept[n] for n in floats], [new[n] for n in floats], 1 - decay)
    for name in kept.keys() - set(floats):
        kept[name].copy_(new[name])
