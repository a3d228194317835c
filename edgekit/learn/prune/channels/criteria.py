"""How much a channel matters: one number a channel, comparable all over the network."""

from collections import defaultdict
from itertools import islice

import torch
from torch import Tensor, nn

from edgekit.errors import SpecError
from edgekit.learn.data.open import open_batches
from edgekit.learn.prune.channels.graph import Flow
from edgekit.learn.recipe.steps import PruneStep
from edgekit.learn.train.step import normalise
from edgekit.learn.work import Work

BATCHES = 8
"""That Taylor's criterion takes its gradients of."""


def scores(module: nn.Module, flow: Flow, step: PruneStep, work: Work) -> dict[int, float]:
    """Root of a channel -> how much it matters; channels that a criterion cannot tell are missing.

    `l1`: the mean over the layers that the channel is made or treated in (all that a sum couples,
    and depthwise convolutions) of its filter's L1 norm, in units of that layer's mean (Li et al.,
    2017, https://arxiv.org/abs/1608.08710, section 3.1; the units let layers be compared).
    `batch_norm`: the mean of |gamma| (Liu et al., 2017, https://arxiv.org/abs/1708.06519).
    `taylor`: the sum over the channel's weights of (gradient * weight)^2, on training images
    (Molchanov et al., 2019, https://arxiv.org/abs/1906.10771, equation 8).

    Raises:
        SpecError: `batch_norm`, of a network that has none.
    """
    if step.criterion == "taylor":
        return _taylor(module, flow, step, work)
    if step.criterion == "l1":
        return norms(module, flow)
    gammas = {
        name: part.weight.detach().abs()
        for name in flow.outs
        if isinstance(part := module.get_submodule(name), nn.BatchNorm2d) and part.affine
    }
    if not gammas:
        raise SpecError(
            "criterion 'batch_norm' ranks channels by their batch norm's gamma, and this network "
            "has no batch norm; say criterion = 'l1' or 'taylor'"
        )
    return _mean(flow, gammas)


def norms(module: nn.Module, flow: Flow) -> dict[int, float]:
    """The criterion `l1`, which needs nothing but the weights."""
    found = {}
    for name in [name for name, kind in flow.kinds.items() if kind != "channelwise"]:
        weight = module.get_submodule(name).get_parameter("weight").detach()
        each = weight.abs().flatten(1).sum(dim=1)
        found[name] = each / each.mean().clamp_min(1e-12)
    return _mean(flow, found)


def _mean(flow: Flow, values: dict[str, Tensor]) -> dict[int, float]:
    """The mean over the layers of what each gives its channels."""
    found = defaultdict[int, list[float]](list)
    for layer, each in values.items():
        for root, value in zip(flow.roots(flow.outs[layer]), each.tolist(), strict=True):
            found[root].append(value)
    return {root: sum(of) / len(of) for root, of in found.items()}


def _taylor(module: nn.Module, flow: Flow, step: PruneStep, work: Work) -> dict[int, float]:
    """Summed over the first batches of the training; in eval mode, so that images stay apart."""
    head = work.recipe.head
    batches = open_batches(work.data.train, head.augment, step.fit.batch, head.seed)
    layers = {name: module.get_submodule(name) for name in flow.outs}
    total = {name: torch.zeros(len(flow.outs[name])) for name in layers}
    size = (work.image.height, work.image.width)
    for batch in islice(batches.epoch(0, size), BATCHES):
        module.zero_grad()
        logits = module.eval()(normalise(batch.pixels, work.image))
        nn.functional.cross_entropy(logits, batch.targets).backward()
        for name, layer in layers.items():
            for parameter in layer.parameters(recurse=False):
                if parameter.grad is not None and len(parameter) == len(total[name]):
                    product = (parameter.grad * parameter.detach()).square()
                    total[name] += product.reshape(len(product), -1).sum(dim=1)
    module.zero_grad()
    found = defaultdict[int, float](float)
    for name, each in total.items():
        for root, value in zip(flow.roots(flow.outs[name]), each.tolist(), strict=True):
            found[root] += value
    return dict(found)
