"""The optimiser, its learning rate, and the moving average of what it makes."""

import math

import torch
from torch import Tensor, nn

from edgekit.learn.recipe.fit import Fit


def optimiser(module: nn.Module, how: Fit) -> torch.optim.Optimizer:
    """SGD with Nesterov's momentum, or AdamW; no weight decay for biases and batch norm.

    Fused where there is such a kernel: on a CPU four times as fast as PyTorch's usual choice.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": how.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if how.optimizer == "sgd":
        return torch.optim.SGD(
            groups,
            lr=how.peak_rate,
            momentum=how.momentum,
            nesterov=how.momentum > 0,
            fused=fused or None,
        )
    return torch.optim.AdamW(groups, lr=how.peak_rate, fused=fused or None)


def rate(epoch: float, how: Fit) -> float:
    """Learning rate at a moment in epochs: linear warm-up, then a cosine down to zero."""
    if epoch < how.warmup_epochs:
        return how.peak_rate * epoch / how.warmup_epochs
    done = (epoch - how.warmup_epochs) / max(how.total_epochs - how.warmup_epochs, 1e-9)
    return how.peak_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1)))


def set_rate(optimiser: torch.optim.Optimizer, value: float) -> None:
    """Give every group this learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = value


def decay_after(done: int, how: Fit) -> float:
    """The moving average's decay after `done` steps: it warms up, as (1 + n) / (10 + n).

    Without it, the random weights of the beginning would weigh on a short run's average to its
    end (as in TensorFlow's `ExponentialMovingAverage`).
    """
    return min(how.average_decay, (1 + done) / (10 + done))


class Average:
    """Exponential moving average of a network's weights and batch norm's statistics."""

    def __init__(self, kept: nn.Module, new: nn.Module) -> None:
        """Let `kept`, a copy of `new`, follow it."""
        ours, theirs = (module.state_dict(keep_vars=True) for module in (kept, new))
        floats = [name for name, value in ours.items() if value.is_floating_point()]
        others = [name for name in ours if name not in set(floats)]
        self._floats = [ours[n] for n in floats], [theirs[n] for n in floats]
        self._others = [ours[n] for n in others], [theirs[n] for n in others]

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """In place: kept <- decay * kept + (1 - decay) * new; counters are copied."""
        for kept, new in (self._floats, self._others):
            for ours, theirs in zip(kept, new, strict=True):
                if ours.shape != theirs.shape:  # an observer's, which get their size when first run
                    _take_over(ours, theirs)
        torch._foreach_lerp_(*self._floats, 1 - decay)
        if self._others[0]:
            torch._foreach_copy_(*self._others)


def _take_over(ours: Tensor, theirs: Tensor) -> None:
    ours.resize_(theirs.shape)
    ours.copy_(theirs)
