"""Which weights go: the smallest ones, of a network, of a layer, or of each group of m."""

from collections.abc import Mapping

import torch
from torch import Tensor

from edgekit.learn.prune.masks import Masks


def equal_shares(sparsity: float, rounds: int) -> tuple[float, ...]:
    """What each of `rounds` rounds leaves, as a fraction of all: each takes the same share.

    Round n leaves (1 - sparsity)^(n / rounds), that is 1 - p of what the round before left, with
    p = 1 - (1 - sparsity)^(1 / rounds) (Frankle and Carbin, 2019, section 2).
    """
    return tuple((1 - sparsity) ** (n / rounds) for n in range(1, rounds + 1))


def largest(weights: Mapping[str, Tensor], left: float, whole: bool, before: Masks) -> Masks:
    """Keep the weights of largest magnitude.

    Args:
        weights: those that may go.
        left: fraction that stays, of all that there are in `weights`: N of them go for
            N = round((1 - left) * count), to a weight. Of two that are equal the later one stays.
        whole: rank all together; else each tensor is ranked for itself, and loses this fraction.
        before: masks of earlier rounds: what is gone stays gone.
    """
    scores = {
        name: weight.detach().abs().float().cpu().masked_fill(~before[name], -1.0)
        if name in before
        else weight.detach().abs().float().cpu()
        for name, weight in weights.items()
    }
    if not whole:
        return {name: _without_smallest(score, left) for name, score in scores.items()}
    flat = torch.cat([score.flatten() for score in scores.values()])
    parts = _without_smallest(flat, left).split([score.numel() for score in scores.values()])
    return {n: part.view(scores[n].shape) for n, part in zip(scores, parts, strict=True)}


def _without_smallest(scores: Tensor, left: float) -> Tensor:
    """Exact among equals, and quicker than sorting millions."""
    flat = scores.flatten()
    gone = round((1 - left) * flat.numel())
    if not gone:
        return torch.ones(scores.shape, dtype=torch.bool)
    limit = flat.kthvalue(gone).values
    stays = flat > limit
    equals = (flat == limit).nonzero().flatten()
    more = flat.numel() - gone - int(stays.sum())
    stays[equals[equals.numel() - more :]] = True
    return stays.view(scores.shape)


def n_of_m(weights: Mapping[str, Tensor], n: int, m: int) -> tuple[Masks, list[str]]:
    """Keep the `n` largest of each `m` weights that follow one another along the input channels.

    Of (C_out, C_in, kh, kw) each output channel and each place (y, x) of the filter has its own
    groups, channels 0 to m - 1 and so on: the axis along which a sparse tensor core adds up, in
    channels-last memory (Mishra et al., 2021, "Accelerating Sparse Deep Neural Networks", section
    3.1, for 2:4; and NVIDIA's ASP).

    Returns:
        Masks, and the names of those that stay dense because C_in (of a group, where the
        convolution is grouped) is not a multiple of `m`.
    """
    masks: dict[str, Tensor] = {}
    dense: list[str] = []
    for name, weight in weights.items():
        if weight.shape[1] % m:
            dense.append(name)
            continue
        last = weight.detach().abs().cpu().movedim(1, -1)  # (C_out, kh, kw, C_in)
        groups = last.unflatten(-1, (-1, m))
        order = groups.argsort(dim=-1, stable=True, descending=True)
        stays = torch.zeros(groups.shape, dtype=torch.bool)
        stays.scatter_(-1, order[..., :n], True)
        masks[name] = stays.flatten(-2).movedim(-1, 1).contiguous()
    return masks, dense


def shuffled(masks: Masks, seed: int) -> Masks:
    """As many weights in each tensor, at random places: a function of the masks and `seed`."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: stays.flatten()[torch.randperm(stays.numel(), generator=generator)].view(stays.shape)
        for name, stays in masks.items()
    }
