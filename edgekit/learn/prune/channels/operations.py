"""Labels through a traced forward(): what its operations do to them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from edgekit.errors import SpecError
from edgekit.learn.prune.channels import rules
from edgekit.learn.prune.channels.flow import Flow
from edgekit.learn.prune.channels.labels import Weight, holds_labels, pairs, spread
from edgekit.learn.prune.channels.layers import Layers


def trace(module: nn.Module) -> fx.Graph:
    """The operations of forward(), in order; raises SpecError where it branches on tensors."""
    try:
        return fx.Tracer().trace(module)
    except Exception as cause:  # a user's forward() may do what cannot be traced by symbols
        raise SpecError(
            f"this network's channels cannot be followed: torch.fx cannot trace its forward(), "
            f"{type(cause).__name__}: {(str(cause).splitlines() or [''])[0]}; write it without "
            "branches on tensors, or prune weights instead (method = 'magnitude')"
        ) from cause


class Runner(Layers):
    """Runs a traced graph on labels."""

    def run(self, graph: fx.Graph) -> Flow:
        for node in graph.nodes:
            args = fx.node.map_arg(node.args, self.values.__getitem__)
            kwargs = fx.node.map_arg(node.kwargs, self.values.__getitem__)
            if any(source in self.marked for source in node.all_input_nodes):
                self.marked.add(node)  # what takes the mark off does so itself
            self.values[node] = self._step(node, args, kwargs)
        return self.flow

    def _step(self, node: fx.Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if node.op == "placeholder":
            return self._input(node)
        if node.op == "get_attr":
            return Weight(_attribute(self.module, str(node.target)))
        if node.op == "output":
            return self._output(node, args[0])
        if node.op == "call_module":
            return self._layer(node, self.module.get_submodule(str(node.target)), *args, **kwargs)
        if not any(holds_labels(value) for value in (*args, *kwargs.values())):
            return _plain(node, args, kwargs)
        return self._operation(node, args, kwargs)

    def _input(self, node: fx.Node) -> Any:
        if self.values:
            return node.args[0] if node.args else None  # a further argument's default
        labels = self._fresh(3)
        self.flow.fixed.update(labels.tolist())
        return spread(labels, (1, 3, *self.size))

    def _output(self, node: fx.Node, answer: Any) -> None:
        fx.node.map_aggregate(answer, lambda v: self._fix(v) if isinstance(v, Tensor) else None)

    def _fix(self, labels: Tensor) -> None:
        self.flow.fixed.update(labels.unique().tolist())

    def _operation(self, node: fx.Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        target: Any = node.target
        if target in ("size", "dim") or target is getattr:
            return _plain(node, args, kwargs)
        if target in rules.POINTWISE:
            self._mark_unless_zero(node)
            return args[0]
        if target in (*rules.JOINS, *rules.PRODUCTS, *rules.QUOTIENTS):
            return self._join(node, args)
        if target in rules.POOLS or (target is F.pad and _is_spatial(args[1])):
            return self._pool(node, target, *args, **kwargs)
        if target is F.pad:
            return self._pad(node, *args, **kwargs)
        if target in rules.MEANS:
            return self._mean(node, *args, **kwargs)
        if target in rules.MOVES:
            call = getattr(Tensor, target) if isinstance(target, str) else target
            return self._move(node, call, *args, **kwargs)
        raise self._refusal(node, f"does '{_called(node)}', for which there is no rule")

    def _mark_unless_zero(self, node: fx.Node) -> None:
        """Mark what is not zero for zeros: the operation itself tells."""
        zeros = {source: torch.zeros(1) for source in node.all_input_nodes}
        values = {
            n: zeros[n] if holds_labels(v) else v for n, v in self.values.items() if n in zeros
        }
        args = fx.node.map_arg(node.args, values.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, values.__getitem__)
        call = getattr(Tensor, node.target) if isinstance(node.target, str) else node.target
        if float(call(*args, **kwargs).abs().sum()):
            self.marked.add(node)

    def _join(self, node: fx.Node, args: Sequence[Any]) -> Any:
        labelled = [value for value in args[:2] if isinstance(value, Tensor)]
        for value in args[:2]:
            if isinstance(value, Weight) and value.tensor.numel() > 1:
                self._fix(labelled[0])  # it has a number for each channel: they stay
        if len(labelled) == 1:
            if node.target in rules.JOINS:
                self.marked.add(node)
            return labelled[0]
        if node.target in rules.QUOTIENTS:
            raise self._refusal(node, "divides by a tensor")
        if node.target in rules.PRODUCTS and not set(node.all_input_nodes) <= self.marked:
            self.marked.discard(node)
        first, second = torch.broadcast_tensors(*labelled)
        self._unite(*pairs(torch.stack((first, second))))
        return first if labelled[0].shape == first.shape else second

    def _pad(
        self,
        node: fx.Node,
        x: Tensor,
        pad: Sequence[int],
        mode: str = "constant",
        value: float | None = None,
    ) -> Tensor:
        """Zeros for channels, as a shortcut without weights has them."""
        before, after = pad[4:6]
        if mode != "constant" or value or any(pad[:4]) or len(pad) != 6:
            raise self._refusal(node, "pads channels with other numbers than zeros")
        wider = torch.cat((self._fresh(before), self._channels(node, x), self._fresh(after)))
        for amount in {before, after} - {0}:
            self.flow.numbers[self._attribute_of(node, amount)] = (amount, int(wider[0]))
        self.flow.tied.append(set(wider.tolist()))
        return spread(wider, (1, len(wider), *x.shape[2:]))

    def _attribute_of(self, node: fx.Node, value: int) -> tuple[str, str]:
        """The module and its attribute that a number in forward() comes from."""
        stack = list(node.meta.get("nn_module_stack", {}).values())
        owner = str(stack[-1][0]) if stack else ""
        part = self.module.get_submodule(owner)
        same = [name for name, held in vars(part).items() if type(held) is int and held == value]
        found = [name for name in same if self._changes(part, name, node)]
        if len(found) != 1:
            raise self._refusal(
                node,
                f"has the number {value} in forward(), which cannot be changed from outside; "
                "keep it as an attribute of its module",
            )
        return owner, found[0]

    def _changes(self, part: nn.Module, attribute: str, node: fx.Node) -> bool:
        """Whether the node's numbers change with this attribute."""
        value = getattr(part, attribute)
        setattr(part, attribute, value + 1)
        try:
            graph = trace(self.module)
            return any(n.name == node.name and n.args[1] != node.args[1] for n in graph.nodes)
        finally:
            setattr(part, attribute, value)

    def _mean(self, node: fx.Node, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        dims = kwargs.get("dim", args[0] if args else None)
        if dims is None:
            raise self._refusal(node, "mixes channels")
        keep = bool(kwargs.get("keepdim", args[1] if len(args) > 1 else False))
        low, high = x.amin(dims, keepdim=keep), x.amax(dims, keepdim=keep)
        if not torch.equal(low, high):
            raise self._refusal(node, "mixes channels")
        return spread(low[0].flatten(1)[:, 0], tuple(low.shape)) if low.dim() > 2 else low


def _attribute(module: nn.Module, path: str) -> Tensor:
    owner, _, name = path.rpartition(".")
    found = getattr(module.get_submodule(owner), name)
    assert isinstance(found, Tensor)
    return found


def _plain(node: fx.Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What yields shapes and numbers is simply done."""
    if isinstance(node.target, str):
        return getattr(args[0], node.target)(*args[1:], **kwargs)
    return node.target(*args, **kwargs)


def _called(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "?")


def _is_spatial(pad: Sequence[int]) -> bool:
    return not any(pad[4:])
