"""What processes share in each step: the mean of their gradients, and batch norm's statistics.

With both, processes that each take a part of a batch do what one process does with all of it.
"""

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from edgekit.errors import SpecError
from edgekit.learn.train.objective import Objective, Part
from edgekit.learn.train.place import Place


class Learner:
    """A network with its objective, whose gradient is the mean over all processes.

    It is torch's `DistributedDataParallel`, around the loss: an objective that is an `nn.Module`
    has the gradients of its own parameters averaged, too. One process has the objective alone.
    """

    def __init__(self, module: nn.Module, objective: Objective, place: Place) -> None:
        """Give all processes the tensors of the first one, where they differ."""
        self._loss = _Loss(module, objective)
        self._shared: tuple[DistributedDataParallel, ...] = ()
        self._checked = place.world == 1
        if place.world > 1:
            others = _has_other_buffers(module)
            self._shared = (DistributedDataParallel(self._loss, forward_sync_buffers=others),)

    def loss(self, part: Part) -> Tensor:
        """A scalar: the objective's, of this process's images."""
        return self._shared[0](part) if self._shared else self._loss(part)

    def gathering(self, last: bool) -> AbstractContextManager[None]:
        """For the loss and gradient of one part of a step: only the `last` one is waited for."""
        return self._shared[0].no_sync() if self._shared and not last else nullcontext()

    def mean(self, value: Tensor) -> Tensor:
        """Of a scalar, over all processes."""
        if not self._shared:
            return value
        total = value / dist.get_world_size()
        dist.all_reduce(total)
        return total

    def check(self) -> None:
        """See, after the first step's gradient, that all parameters have one; raises SpecError."""
        if self._checked:
            return
        self._checked = True
        left_out = [
            name
            for name, parameter in self._loss.named_parameters()
            if parameter.requires_grad and parameter.grad is None
        ]
        if left_out:
            raise SpecError(
                f"{len(left_out)} parameters have no part in the loss, as "
                f"'{left_out[0].partition('.')[2]}', and processes would wait for their gradients "
                "without end; take them out of the network, set their requires_grad to False, or "
                "train in one process"
            )


class _Loss(nn.Module):
    """What `DistributedDataParallel` asks for: a module whose output the gradient starts from."""

    def __init__(self, student: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.student, self.objective = student, objective

    def forward(self, part: Part) -> Tensor:
        return self.objective.loss(self.student, part)


def _has_other_buffers(module: nn.Module) -> bool:
    """Whether there are buffers that `synchronised` does not keep alike: then the first's count."""
    ours = {id(buffer) for norm in _norms(module) for buffer in norm.buffers()}
    return any(id(buffer) not in ours for buffer in module.buffers())


@contextmanager
def synchronised(module: nn.Module, place: Place) -> Iterator[None]:
    """While the block lasts, batch norm in `module` sees the images of all processes.

    On CUDA by torch's `SyncBatchNorm`, on CPUs, which that refuses, by the same formulas here. The
    modules stay, so tensors keep their names. A class with a `forward` of its own stays as it is.
    """
    norms = _norms(module) if place.world > 1 else []
    for norm in norms:
        forward = functools.partial(_forward, norm)
        if place.device.type == "cuda":
            forward = functools.partial(_by, nn.SyncBatchNorm.convert_sync_batchnorm(norm), norm)
        norm.forward = torch.compiler.disable(forward)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _norms(module: nn.Module) -> list[_BatchNorm]:
    return [
        part
        for part in module.modules()
        if isinstance(part, _BatchNorm) and type(part).forward is _BatchNorm.forward
    ]


def _by(twin: nn.SyncBatchNorm, norm: _BatchNorm, x: Tensor) -> Tensor:
    """Run `norm` by its `twin`, which has the very same tensors."""
    twin.training, twin.track_running_stats = norm.training, norm.track_running_stats
    twin.momentum = norm.momentum
    return twin(x)


def _forward(norm: _BatchNorm, x: Tensor) -> Tensor:
    """(N, C, ...) -> the same, normalised by the mean and variance of all processes' images."""
    if not norm.training:
        return _BatchNorm.forward(norm, x)
    norm._check_input_dim(x)
    mean, var, count = _statistics(x.detach())
    if norm.track_running_stats and norm.running_mean is not None:
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean.to(norm.running_mean), share)
        norm.running_var.lerp_((var * (count / (count - 1))).to(norm.running_var), share)
    weight: Tensor | None = norm.weight
    bias: Tensor | None = norm.bias
    return _Normalise.apply(  # type: ignore[no-untyped-call]
        x,
        torch.ones_like(mean) if weight is None else weight,
        torch.zeros_like(mean) if bias is None else bias,
        *(mean, var, count, norm.eps),
    )


@torch.no_grad()
def _statistics(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """(C,) mean, (C,) variance (biased) and how many values a channel has, over all processes.

    Means and sums of squared deviations of parts are put together as in Chan, Golub and LeVeque,
    1979, equation 2.1, which loses no digits where the mean is large.
    """
    mean, var = torch.batch_norm_update_stats(x if x.dtype == torch.float64 else x.float(), *_NO)
    count = torch.full((1,), x.numel() / x.shape[1], dtype=mean.dtype)
    mine = torch.cat([mean, var, count])
    parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, mine)
    found = torch.stack(parts).double()  # (world, 2C + 1)
    means, variances = found[:, :-1].chunk(2, dim=1)
    share = found[:, -1:] / found[:, -1].sum()
    mean = (means * share).sum(0)
    var = ((variances + (means - mean) ** 2) * share).sum(0)
    total = float(found[:, -1].sum())
    if total < 2:
        raise ValueError("batch norm needs more than one value a channel, over all processes")
    return mean.to(mine), var.to(mine), total


_NO = (None, None, 0.0)
"""No running statistics."""


class _Normalise(torch.autograd.Function):
    """(N, C, ...) -> the same; the gradient goes through the statistics, over all processes.

    Ioffe and Szegedy, 2015, section 3, with the sums over all processes' images.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        var: Tensor,
        count: float,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var)
        ctx.count, ctx.eps = count, eps
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        for_x, for_weight, for_bias = torch.ops.aten.native_batch_norm_backward(
            *(grads[0], x, weight, mean, var, None, None, False, ctx.eps, [True, True, True])
        )
        sums = torch.cat([for_weight, for_bias])
        dist.all_reduce(sums)
        scaled = sums / ctx.count
        shape = (1, -1, *(1,) * (x.dim() - 2))
        deviation = (var + ctx.eps).sqrt()
        slope, shift = scaled.chunk(2)  # of the loss by weight and bias, a value
        per_value = (weight / deviation).view(shape)
        off = (x - mean.view(shape)) * (slope / deviation).view(shape) + shift.view(shape)
        for_x = for_x - (off * per_value).to(for_x)
        return for_x, for_weight, for_bias, None, None, None, None
