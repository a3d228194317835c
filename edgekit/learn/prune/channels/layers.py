"""Labels through layers: which make channels, which treat each by itself, which take them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgekit.errors import SpecError
from edgekit.learn.prune.channels import rules
from edgekit.learn.prune.channels.flow import Flow, Kind
from edgekit.learn.prune.channels.labels import (
    Weight,
    channels_of,
    flat,
    order,
    shape_after,
    spread,
)
from edgekit.lower.widths import sizes


class Layers:
    """What layers do to labels, and what is known so far."""

    def __init__(self, module: nn.Module, size: tuple[int, int], kinds: Mapping[str, Kind] | None):
        self.module, self.size, self.kinds = module, size, kinds
        self.flow = Flow()
        self.values: dict[fx.Node, Any] = {}
        self.marked: set[fx.Node] = set()
        """Values that are not zero where a pruned channel is: behind a sigmoid, say."""

    def _layer(self, node: fx.Node, part: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if any(isinstance(value, Weight) for value in args):
            raise self._refusal(node, "takes weights that forward() reads itself")
        if isinstance(part, rules.POINTWISE_MODULES):
            if float(part(torch.zeros(1, 1, 1, 1)).abs().sum()):
                self.marked.add(node)
            return args[0]
        if isinstance(part, rules.POOLS_MODULES):
            return self._pool(node, part, *args, **kwargs)
        if isinstance(part, rules.MOVES_MODULES):
            return self._move(node, part, *args, **kwargs)
        if isinstance(part, nn.Conv2d):
            return self._convolution(node, part, args[0])
        if isinstance(part, nn.Linear):
            labels = channels_of(args[0], dim=-1)
            if labels is None:
                raise self._refusal(node, "mixes pixels")
            self._take(node, labels)
            return spread(self._make(node, "dense", part.out_features), shape_after(args[0], part))
        if isinstance(part, nn.PReLU) and part.num_parameters == 1:
            return args[0]
        if sizes(part):
            return self._channelwise(node, args[0])
        raise self._refusal(node, f"is a {type(part).__name__}, for which there is no rule")

    def _convolution(self, node: fx.Node, conv: nn.Conv2d, x: Tensor) -> Tensor:
        labels = self._channels(node, x)
        name, per = str(node.target), conv.out_channels // conv.groups
        depthwise = 1 < conv.groups == conv.in_channels
        kind: Kind = "depthwise" if depthwise else "grouped" if conv.groups > 1 else "dense"
        kind = (self.kinds or {}).get(name, kind)
        shape = shape_after(x, conv)
        if kind == "depthwise":
            self.marked.discard(node)
            labels = labels.repeat_interleave(per)
            self._pass(node, kind, labels)
            return spread(labels, shape)
        self._take(node, labels)
        made = self._make(node, kind, conv.out_channels)
        if kind == "grouped":
            self.flow.groups[name] = conv.groups
            self.flow.tied += [set(labels.tolist()), set(made.tolist())]
        return spread(made, shape)

    def _channelwise(self, node: fx.Node, x: Tensor) -> Tensor:
        """Batch norm, PReLU: a weight or more for each channel."""
        self.marked.discard(node)
        labels = self._channels(node, x)
        self._pass(node, "channelwise", labels)
        return x

    def _take(self, node: fx.Node, labels: Tensor) -> None:
        if node in self.marked:
            raise self._refusal(
                node,
                "takes channels that are not zero where what made them is (behind a sigmoid, "
                "or a number that is added): without them it would answer otherwise",
            )
        self._attach(self.flow.ins, node, labels)

    def _make(self, node: fx.Node, kind: Kind, count: int) -> Tensor:
        name = str(node.target)
        if name not in self.flow.outs:  # a layer that runs twice makes the same channels
            self.flow.kinds[name] = kind
            self.flow.outs[name] = self._fresh(count)
        return self.flow.outs[name]

    def _pass(self, node: fx.Node, kind: Kind, labels: Tensor) -> None:
        self.flow.kinds[str(node.target)] = kind
        self._attach(self.flow.outs, node, labels)

    def _attach(self, table: dict[str, Tensor], node: fx.Node, labels: Tensor) -> None:
        name = str(node.target)
        if name in table:
            self._unite(table[name], labels)
        else:
            table[name] = labels

    def _pool(self, node: fx.Node, call: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        labels = self._channels(node, x)
        shape = call(torch.zeros(x.shape), *args, **kwargs).shape
        return spread(labels, (1, len(labels), *shape[2:]))

    def _move(self, node: fx.Node, call: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            moved = call(*args, **kwargs)
        except (RuntimeError, IndexError) as cause:
            raise self._refusal(node, f"does not take these shapes ({cause})") from cause
        given = [value for value in flat(args) if isinstance(value, Tensor)]
        results = [value for value in flat((moved,)) if isinstance(value, Tensor)]
        if len(given) == 1 and any(order(value) != order(given[0]) for value in results):
            self.flow.tied.append(set(order(given[0])))
        return moved

    def _fresh(self, count: int) -> Tensor:
        first = len(self.flow.same)
        self.flow.same.extend(range(first, first + count))
        return torch.arange(first, first + count)

    def _unite(self, first: Tensor, second: Tensor) -> None:
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            self.flow.same[self.flow.root(b)] = self.flow.root(a)

    def _channels(self, node: fx.Node, x: Tensor) -> Tensor:
        labels = channels_of(x, dim=1)
        if labels is None:
            raise self._refusal(node, "takes a tensor whose second dimension is not the channels'")
        return labels

    def _refusal(self, node: fx.Node, why: str) -> SpecError:
        stack = list(node.meta.get("nn_module_stack", {}).values())
        where = str(node.target) if node.op == "call_module" else str(stack[-1][0]) if stack else ""
        return SpecError(
            f"channels cannot be followed through '{where or 'forward()'}': it {why}; write that "
            "part otherwise, or prune weights instead (method = 'magnitude')"
        )
