"""Receptive field: the input pixels that one place of the last feature map can see."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx
from torch.export import ExportedProgram

from edgekit.cost.graph import arguments, is_pointwise, layer, operator, shape
from edgekit.errors import SpecError

COUNTED = (
    "The receptive field is of the last feature map, before global pooling; what global pooling "
    "feeds (squeeze-and-excite, the head) sees the whole image and does not count."
)
"""The definition, to be printed beside the figure."""

_SLIDING = {"conv2d", "max_pool2d", "avg_pool2d"}
_PADDING = {"pad", "constant_pad_nd"}
_REDUCTIONS = {"mean", "sum", "amax", "amin"}
_ADAPTIVE = {"adaptive_avg_pool2d", "adaptive_max_pool2d"}
_NORMS = {"group_norm", "instance_norm", "layer_norm"}  # their statistics are a global pooling
_DROPOUTS = {"dropout", "feature_dropout"}
_KEEPING = {"cat", "clone", "contiguous", "getitem", "to"} | _REDUCTIONS | _NORMS | _DROPOUTS


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """Of one place of the last feature map; the larger of height and width."""

    pixels: int
    """Of the input; it may exceed the image, and then sees padding."""
    stride: int
    """Input pixels from one place of the map to the next."""
    strides: tuple[int, ...]
    """Those of all maps on the way, finest first."""
    layer: str
    """What gives the last map, as `features.18.2 (hardtanh)`."""
    shape: tuple[int, ...]
    """Of the last map, (1, C, H, W)."""


@dataclass(frozen=True, slots=True)
class _Window:
    """On one axis, the input pixels `first` to `last` that place 0 sees; place i, `i * step` on."""

    first: int
    last: int
    step: int

    def slide(self, kernel: int, stride: int, padding: int, dilation: int) -> "_Window":
        return _Window(
            self.first - padding * self.step,
            self.last + (dilation * (kernel - 1) - padding) * self.step,
            self.step * stride,
        )


def receptive_field(program: ExportedProgram) -> ReceptiveField:
    """Follow kernel, stride, padding and dilation from the input to the last feature map.

    After Araujo et al., Computing Receptive Fields of Convolutional Neural Networks, Distill 2019
    (https://distill.pub/2019/computing-receptive-fields). Where branches meet, the field is what
    they see together, that is the largest where all are centred alike. Global pooling does not
    count, and what comes after it neither: squeeze-and-excite branches and the head. A flattened
    map ends the way likewise. The channels of a map are not told apart: where some see more than
    others, each passes for the one that sees most.

    Raises:
        SpecError: an operator in the way moves pixels in a manner that is not known here.
    """
    height, width = (_follow(program, axis) for axis in (0, 1))
    if not height:
        raise SpecError("the network has no feature map: no operator gives (1, C, H, W)")
    node = list(height)[-1]
    windows = [height[node], width[node]]
    return ReceptiveField(
        pixels=max(window.last - window.first + 1 for window in windows),
        stride=max(window.step for window in windows),
        strides=tuple(sorted({max(height[each].step, width[each].step) for each in height})),
        layer=layer(node),
        shape=shape(node),
    )


def _follow(program: ExportedProgram, axis: int) -> dict[fx.Node, _Window]:
    """The window of each feature map, in order of execution; `axis` 0 is height, 1 is width."""
    inputs = set(program.graph_signature.user_inputs)
    windows: dict[fx.Node, _Window] = {}
    for node in program.graph.nodes:
        if node.name in inputs:
            windows[node] = _Window(0, 0, 1)
        elif node.op == "call_function":
            window = _after(node, windows, axis)
            if window is not None:
                windows[node] = window
    return {node: window for node, window in windows.items() if node.op == "call_function"}


def _after(node: fx.Node, windows: Mapping[fx.Node, _Window], axis: int) -> _Window | None:
    """The window of what `node` gives; None where it is no feature map."""
    maps = [each for each in node.all_input_nodes if each in windows]
    name, size = operator(node), shape(node)[-2:] if len(shape(node)) >= 4 else ()
    if not maps:
        if name in _SLIDING and math.prod(size) > 1:
            raise _unknown(node)  # a map that was flattened and folded up again
        return None
    window, before = windows[maps[0]], shape(maps[0])[-2:]
    if not size or _is_global(node, before):
        return None
    if name in _SLIDING:
        return window.slide(*_kernel(node, axis))
    if name in _ADAPTIVE and not any(old % new for old, new in zip(before, size, strict=True)):
        side = before[axis] // size[axis]
        return window.slide(side, side, 0, 1)
    if name in _PADDING:
        return window.slide(1, 1, _margin(arguments(node)["pad"], axis), 1)
    if name == "slice" and arguments(node)["dim"] % len(shape(node)) == len(shape(node)) - 2 + axis:
        named = arguments(node)
        start = slice(named["start"], None).indices(before[axis])[0]
        return window.slide(1, named["step"], -start, 1)
    known = is_pointwise(node) or name in _KEEPING or _is_view(node)
    if known and all(shape(each)[-2:] == size or name == "slice" for each in maps):
        return _union(node, [windows[each] for each in maps])
    raise _unknown(node)


def _union(node: fx.Node, windows: Sequence[_Window]) -> _Window:
    steps = {window.step for window in windows}
    if len(steps) > 1:
        raise _unknown(node)
    first = min(window.first for window in windows)
    return _Window(first, max(window.last for window in windows), steps.pop())


def _is_global(node: fx.Node, before: tuple[int, ...]) -> bool:
    """Whether `node` pools over the whole map, of size `before`."""
    name, rank = operator(node), len(shape(node.all_input_nodes[0]))
    if name in _ADAPTIVE:
        return math.prod(shape(node)[-2:]) == 1
    if name in _REDUCTIONS:
        dims = arguments(node).get("dim")
        return not dims or {rank - 2, rank - 1} <= {dim % rank for dim in dims}
    if name == "avg_pool2d":
        kernel = _pair(arguments(node)["kernel_size"])
        return all(side >= old for side, old in zip(kernel, before, strict=True))
    return False


def _kernel(node: fx.Node, axis: int) -> tuple[int, int, int, int]:
    """Kernel, stride, padding and dilation of a convolution or a pooling along `axis`."""
    named = arguments(node)
    if operator(node) == "conv2d":
        kernel = shape(named["weight"])[2 + axis]
    else:
        kernel = _pair(named["kernel_size"])[axis]
    stride = _pair(named["stride"] or kernel)[axis]  # a pooling's default is its kernel
    dilation = _pair(named.get("dilation", 1))[axis]
    padding = named["padding"]
    if isinstance(padding, str):
        padding = dilation * (kernel - 1) // 2 if padding == "same" else 0
    return kernel, stride, _pair(padding)[axis], dilation


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    values = [value] if isinstance(value, int) else list(value)
    return values[0], values[-1]


def _margin(pad: Sequence[int], axis: int) -> int:
    """Rows added before the first: `pad` is (left, right, top, bottom), or its beginning."""
    place = 2 * (1 - axis)
    return pad[place] if len(pad) > place else 0


def _is_view(node: fx.Node) -> bool:
    schema: Any = getattr(node.target, "_schema", None)
    return schema is not None and any(each.alias_info is not None for each in schema.returns)


def _unknown(node: fx.Node) -> SpecError:
    return SpecError(f"its pixels cannot be followed through {layer(node)}")
