"""How a network is run while it learns: faster, or with less memory; with the same numbers."""

import functools
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from edgekit.errors import SpecError
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.train.place import Place
from edgekit.learn.train.stride import fast_strides


@contextmanager
def prepared(module: nn.Module, how: Fit, place: Place) -> Iterator[None]:
    """While the block lasts, `module` runs as `how` asks for; its tensors keep their names.

    Raises:
        SpecError: it is to be compiled, and there is no C++ compiler, or it could not link.
    """
    with ExitStack() as stack:
        if place.device.type == "cpu":
            stack.enter_context(fast_strides(module))
        if how.recompute:
            stack.enter_context(recomputing(module))
        if how.compile:
            stack.enter_context(compiled(module, place))
        yield


@contextmanager
def compiled(module: nn.Module, place: Place) -> Iterator[None]:
    """While the block lasts, calls of `module` go through `torch.compile`."""
    names = [os.environ.get("CXX", "c++"), "g++", "clang++"]
    if place.device.type == "cpu" and not any(map(shutil.which, names)):
        raise SpecError(
            "fit.compile is true, but there is no C++ compiler on this machine; install g++, or "
            "set compile = false: the numbers are the same to rounding"
        )
    if place.device.type == "cpu" and " " in (where := str(Path(torch.__file__).parent)):
        raise SpecError(
            f"fit.compile is true, but PyTorch lies in {where}, and its compiler cannot link to a "
            "folder with a space in its name; move the environment, or set compile = false"
        )
    module.compile(dynamic=False)
    try:
        yield
    finally:
        module._compiled_call_impl = None


@contextmanager
def plain(module: nn.Module) -> Iterator[None]:
    """While the block lasts, calls of `module` are not compiled: those few in eval mode."""
    kept, module._compiled_call_impl = module._compiled_call_impl, None
    try:
        yield
    finally:
        module._compiled_call_impl = kept


@contextmanager
def recomputing(module: nn.Module) -> Iterator[None]:
    """While the block lasts, blocks keep only their inputs, and are run again for the gradient.

    Gradient checkpointing (Chen et al., 2016). Dropout draws the same again, and batch norm counts
    a batch once.
    """
    changed = list(blocks(module))
    while len(changed) == 1 and (inner := list(blocks(changed[0]))):
        changed = inner  # a network in a network
    for block in changed:
        block.forward = functools.partial(_forward, block, block.forward)
    try:
        yield
    finally:
        for block in changed:
            del block.forward


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The largest parts that are no mere list of parts: residual blocks, as a rule."""
    for part in module.children():
        if isinstance(part, nn.Sequential | nn.ModuleList) and any(
            any(inner.children()) for inner in part
        ):
            yield from blocks(part)
        elif any(part.children()):
            yield part


def _forward(block: nn.Module, forward: Any, *inputs: Tensor) -> Any:
    if not block.training:
        return forward(*inputs)
    return checkpoint(
        forward,
        *inputs,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _statistics_held(block)),
    )


@contextmanager
def _statistics_held(block: nn.Module) -> Iterator[None]:
    """Batch norm normalises by the batch, as before, but its running statistics stay.

    By a momentum of 0: to turn tracking off would change what autograd keeps, which is compared.
    """
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.training]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    counts = [None if count is None else count.clone() for _, count in before]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, tracked), count in zip(norms, before, counts, strict=True):
            norm.momentum = momentum
            if tracked is not None and count is not None:
                tracked.copy_(count)
