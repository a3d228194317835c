"""Learning from a teacher's layers, beside its answers.

FitNets: Hints for Thin Deep Nets (Romero et al., 2015), equation 3, https://arxiv.org/abs/1412.6550.
Differs: the mean of the squares, not half their sum, so that a weight means the same for any layer;
the regressor is a 1x1 convolution, and stands only where channels differ; maps of another size are
averaged to the smaller one's.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekit.errors import SpecError, UnknownName
from edgekit.learn.recipe.steps import Feature


class Imitation(nn.Module):
    """The loss of a student's layers against a teacher's; its weights are learned, and not kept."""

    def __init__(
        self,
        features: Sequence[Feature],
        ours: Mapping[str, Tensor],
        theirs: Mapping[str, Tensor],
    ) -> None:
        """`ours` and `theirs`: what each layer gives for any one image, for its shape."""
        super().__init__()
        self._features = tuple(features)
        self.regressors = nn.ModuleList(
            _regressor(ours[f.student].shape[1], theirs[f.teacher].shape[1]) for f in features
        )

    def forward(self, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> Tensor:
        """Layer -> (B, C, H, W) or (B, C), of student and teacher; a scalar."""
        losses = [
            feature.weight * _distance(regressor, ours[feature.student], theirs[feature.teacher])
            for feature, regressor in zip(self._features, self.regressors, strict=True)
        ]
        return torch.stack(losses).sum()


def _regressor(channels: int, wanted: int) -> nn.Module:
    return nn.Identity() if channels == wanted else nn.Conv2d(channels, wanted, 1)


def _distance(regressor: nn.Module, ours: Tensor, theirs: Tensor) -> Tensor:
    ours, theirs = _map(ours), _map(theirs)
    size = (min(ours.shape[2], theirs.shape[2]), min(ours.shape[3], theirs.shape[3]))
    ours, theirs = F.adaptive_avg_pool2d(ours, size), F.adaptive_avg_pool2d(theirs, size)
    return F.mse_loss(regressor(ours).float(), theirs.float())


def _map(feature: Tensor) -> Tensor:
    """(B, C) -> (B, C, 1, 1)."""
    return feature[:, :, None, None] if feature.dim() == 2 else feature


@contextmanager
def captured(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """While the block lasts, each run leaves what these layers gave.

    Raises:
        UnknownName: no layer of that name.
        SpecError: a layer that gives neither (B, C, H, W) nor (B, C).
    """
    found: dict[str, Tensor] = {}
    layers = dict(module.named_modules())
    for name in names:
        if not name or name not in layers:
            raise UnknownName(f"layer of {type(module).__name__}", name, filter(None, layers))

    def keep(name: str, output: object) -> None:
        if not isinstance(output, Tensor) or output.dim() not in (2, 4):
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise SpecError(
                f"layer '{name}' gives {shape}; features are (B, C, H, W) or (B, C): name another"
            )
        found[name] = output.clone()  # an activation that follows may work in place

    hooks = [
        layers[name].register_forward_hook(lambda _m, _i, output, name=name: keep(name, output))
        for name in dict.fromkeys(names)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
