"""Which channels belong together: labels, one a channel, that flow through the network.

Each convolution labels what it makes; what follows passes labels on as it passes channels on. An
addition makes two labels one. A view, a transpose, a slice or a concatenation is simply done to the
labels, so a channel shuffle or a split needs no rule of its own:

    conv1 -> [1 2 3 4] -> shuffle -> [1 3 2 4] -> split -> [1 3] -> conv2 takes 1 and 3
                                                        -> [2 4] -> + conv3's [5 6]: 2=5, 4=6

The network runs on labels alone, as `torch.fx` traces it: no weight is touched.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from edgekit.errors import SpecError
from edgekit.learn.prune.channels import rules
from edgekit.lower.widths import sizes

Kind = Literal["dense", "grouped", "depthwise", "channelwise"]
"""Of a layer: whether it makes channels (the first two), or treats each one by itself."""


@dataclass(slots=True)
class Flow:
    """What flows where; labels are numbers, and `same` says which of them mean one channel."""

    kinds: dict[str, Kind] = field(default_factory=dict)
    outs: dict[str, Tensor] = field(default_factory=dict)
    """Layer -> (C_out,) int64, the labels of what it makes or passes on."""
    ins: dict[str, Tensor] = field(default_factory=dict)
    """Layer that makes channels -> (C_in,) int64, the labels of what it takes."""
    groups: dict[str, int] = field(default_factory=dict)
    """Of the layers that are `grouped`."""
    same: list[int] = field(default_factory=list)
    """Label -> another one of the same channel, or itself: a forest, see `root`."""
    fixed: set[int] = field(default_factory=set)
    """Labels that cannot be pruned: the image's, and those of the network's answers."""
    tied: list[set[int]] = field(default_factory=list)
    """Labels whose places count, as a split or a group's channels do: thinned out together."""
    numbers: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """(module, attribute) -> a plain number that follows from the widths, and a label it belongs
    to."""

    def root(self, label: int) -> int:
        """The label that stands for all of the same channel."""
        while self.same[label] != label:
            self.same[label] = self.same[self.same[label]]
            label = self.same[label]
        return label

    def roots(self, labels: Tensor) -> list[int]:
        return [self.root(label) for label in labels.tolist()]


def follow(
    module: nn.Module, size: tuple[int, int], kinds: Mapping[str, Kind] | None = None
) -> Flow:
    """Let labels flow through `module`.

    Args:
        module: (1, 3, *size) -> anything; only its structure is looked at.
        size: height and width of the image.
        kinds: of a network that is not pruned yet, where this one is.

    Raises:
        SpecError: names the layer that cannot be followed.
    """
    return _Runner(module, size, kinds).run(_trace(module))


def _trace(module: nn.Module) -> fx.Graph:
    try:
        return fx.Tracer().trace(module)
    except Exception as cause:  # a user's forward() may do what cannot be traced by symbols
        raise SpecError(
            f"this network's channels cannot be followed: torch.fx cannot trace its forward(), "
            f"{type(cause).__name__}: {(str(cause).splitlines() or [''])[0]}; write it without "
            "branches on tensors, or prune weights instead (method = 'magnitude')"
        ) from cause


class _Runner:
    """Runs a traced graph on labels: tensors of int64, shaped as the activations."""

    def __init__(self, module: nn.Module, size: tuple[int, int], kinds: Mapping[str, Kind] | None):
        self.module, self.size, self.kinds = module, size, kinds
        self.flow = Flow()
        self.values: dict[fx.Node, Any] = {}
        self.marked: set[fx.Node] = set()
        """Values that are not zero where a pruned channel is: behind a sigmoid, say."""

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
            return _Weight(_attribute(self.module, str(node.target)))
        if node.op == "output":
            return self._output(node, args[0])
        if node.op == "call_module":
            return self._layer(node, self.module.get_submodule(str(node.target)), *args, **kwargs)
        if not any(_holds_labels(value) for value in (*args, *kwargs.values())):
            return _plain(node, args, kwargs)
        return self._operation(node, args, kwargs)

    def _input(self, node: fx.Node) -> Any:
        if self.values:
            return node.args[0] if node.args else None  # a further argument's default
        labels = self._fresh(3)
        self.flow.fixed.update(labels.tolist())
        return _spread(labels, (1, 3, *self.size))

    def _output(self, node: fx.Node, answer: Any) -> None:
        fx.node.map_aggregate(answer, lambda v: self._fix(v) if isinstance(v, Tensor) else None)

    def _fix(self, labels: Tensor) -> None:
        self.flow.fixed.update(labels.unique().tolist())

    # Layers

    def _layer(self, node: fx.Node, part: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if any(isinstance(value, _Weight) for value in args):
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
            labels = _channels(args[0], dim=-1)
            if labels is None:
                raise self._refusal(node, "mixes pixels")
            self._take(node, labels)
            return _spread(self._make(node, "dense", part.out_features), _after(args[0], part))
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
        after = _after(x, conv)
        if kind == "depthwise":
            self.marked.discard(node)
            labels = labels.repeat_interleave(per)
            self._pass(node, kind, labels)
            return _spread(labels, after)
        self._take(node, labels)
        made = self._make(node, kind, conv.out_channels)
        if kind == "grouped":
            self.flow.groups[name] = conv.groups
            self.flow.tied += [set(labels.tolist()), set(made.tolist())]
        return _spread(made, after)

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

    # Operations

    def _operation(self, node: fx.Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        target: Any = node.target
        if target in ("size", "dim") or target is getattr:
            return _plain(node, args, kwargs)
        if target in rules.POINTWISE:
            self._mark_unless_zero(node)
            return args[0]
        if target in (*rules.JOINS, *rules.PRODUCTS, *rules.QUOTIENTS):
            return self._join(node, args)
        if target in rules.POOLS or (target is torch.nn.functional.pad and _is_spatial(args[1])):
            return self._pool(node, target, *args, **kwargs)
        if target is torch.nn.functional.pad:
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
            n: zeros[n] if _holds_labels(v) else v for n, v in self.values.items() if n in zeros
        }
        args = fx.node.map_arg(node.args, values.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, values.__getitem__)
        call = getattr(Tensor, node.target) if isinstance(node.target, str) else node.target
        if float(call(*args, **kwargs).abs().sum()):  # type: ignore[operator]
            self.marked.add(node)

    def _join(self, node: fx.Node, args: Sequence[Any]) -> Any:
        labelled = [value for value in args[:2] if isinstance(value, Tensor)]
        for value in args[:2]:
            if isinstance(value, _Weight) and value.tensor.numel() > 1:
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
        self._unite(*_thin(torch.stack((first, second))))
        return first if labelled[0].shape == first.shape else second

    def _pool(self, node: fx.Node, call: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        labels = self._channels(node, x)
        shape = call(torch.zeros(x.shape), *args, **kwargs).shape
        return _spread(labels, (1, len(labels), *shape[2:]))

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
        return _spread(wider, (1, len(wider), *x.shape[2:]))

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
            graph = _trace(self.module)
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
        return _spread(low[0].flatten(1)[:, 0], tuple(low.shape)) if low.dim() > 2 else low

    def _move(self, node: fx.Node, call: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            moved = call(*args, **kwargs)
        except (RuntimeError, IndexError) as cause:
            raise self._refusal(node, f"does not take these shapes ({cause})") from cause
        given = [value for value in _flat(args) if isinstance(value, Tensor)]
        results = [value for value in _flat((moved,)) if isinstance(value, Tensor)]
        if len(given) == 1 and any(_order(value) != _order(given[0]) for value in results):
            self.flow.tied.append(set(_order(given[0])))
        return moved

    # Labels

    def _fresh(self, count: int) -> Tensor:
        first = len(self.flow.same)
        self.flow.same.extend(range(first, first + count))
        return torch.arange(first, first + count)

    def _unite(self, first: Tensor, second: Tensor) -> None:
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            self.flow.same[self.flow.root(b)] = self.flow.root(a)

    def _channels(self, node: fx.Node, x: Tensor) -> Tensor:
        labels = _channels(x, dim=1)
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


@dataclass(frozen=True, slots=True)
class _Weight:
    """A parameter or buffer that forward() reads itself."""

    tensor: Tensor


def _attribute(module: nn.Module, path: str) -> Tensor:
    owner, _, name = path.rpartition(".")
    found = getattr(module.get_submodule(owner), name)
    assert isinstance(found, Tensor)
    return found


def _holds_labels(value: Any) -> bool:
    return any(isinstance(each, Tensor | _Weight) for each in _flat((value,)))


def _flat(values: Any) -> list[Any]:
    if isinstance(values, list | tuple):
        return [each for value in values for each in _flat(value)]
    return [values]


def _plain(node: fx.Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What yields shapes and numbers is simply done."""
    if isinstance(node.target, str):
        return getattr(args[0], node.target)(*args[1:], **kwargs)
    return node.target(*args, **kwargs)


def _called(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "?")


def _is_spatial(pad: Sequence[int]) -> bool:
    return not any(pad[4:])


def _spread(labels: Tensor, shape: Sequence[int]) -> Tensor:
    """(C,) -> (1, C, H, W) or (1, C), without memory of its own."""
    return labels.view(1, -1, *[1] * (len(shape) - 2)).expand(tuple(shape))


def _channels(x: Tensor, dim: int) -> Tensor | None:
    """The labels along `dim`; None where they are not the same along the other dimensions."""
    last = x.movedim(dim, -1)
    labels = last.reshape(-1, last.shape[-1])[0] if x.dim() < 3 else last[(0,) * (x.dim() - 1)]
    return labels if bool((last == labels).all()) else None


def _after(x: Tensor, layer: nn.Conv2d | nn.Linear) -> tuple[int, ...]:
    """The shape that a layer makes of `x`."""
    if isinstance(layer, nn.Linear):
        return (*x.shape[:-1], layer.out_features)
    pixels = torch.empty(1, layer.groups, *x.shape[2:], device="meta")
    kernel = torch.empty(layer.groups, 1, *layer.kernel_size, device="meta")
    padding, stride = layer.padding, layer.stride
    made = torch.nn.functional.conv2d(
        pixels, kernel, None, stride, padding, layer.dilation, layer.groups
    )
    return (1, layer.out_channels, *made.shape[2:])


def _thin(pair: Tensor) -> Tensor:
    """(2, 1, C, H, W) -> (2, C): each pair of labels once."""
    if pair.dim() == 5 and bool((pair == pair[..., :1, :1]).all()):
        return pair[:, 0, :, 0, 0]
    return pair.flatten(1).unique(dim=1)


def _order(x: Tensor) -> list[int]:
    """The labels as they lie, each run of equal ones once."""
    found: list[int] = x.flatten().unique_consecutive().tolist()
    return found
