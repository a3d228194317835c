"""What learns for int8: the graph that the build quantises, for batches, with gradients.

pixels uint8 (1, H, W, 3)     ->  (N, 3, H, W) normalised, made whole pixels again
observer of an activation     ->  `Activation`, with the ReLU before it, where there is one
observer of weights, layer    ->  `Layer`, with its padding, and batch norm while it is live
observer of what is merely moved numbers (pad, max pool, slice, shuffle ...)  ->  nothing
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torchao.quantization.pt2e.observer import FixedQParamsObserver, MinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

from edgekit.errors import SpecError
from edgekit.learn.qat.activation import LARGEST, LEAST, Activation
from edgekit.learn.qat.layer import Geometry, Layer
from edgekit.learn.qat.ranges import Places, write
from edgekit.learn.qat.reading import ends, geometry, is_observer, margin, moves, of_weight
from edgekit.learn.qat.start import Start
from edgekit.lower.dynamic import free_batch_of
from edgekit.lower.export import ACTIVATIONS, aten
from edgekit.lower.forms.integer import CONVOLUTIONS, get_constant
from edgekit.lower.int8.pairs import (
    DEQUANTIZE,
    QUANTIZE,
    calls,
    operands_of,
    result_of,
    weights_of,
)
from edgekit.lower.int8.quantise import EdgeQuantizer, Ptq, converted_from
from edgekit.spec import ImageSpec, Scheme


class Pixels(nn.Module):
    """(N, 3, H, W) normalised -> the camera's pixels, 0 to 255; rounded by what comes after it."""

    mean: Tensor
    std: Tensor

    def __init__(self, image: ImageSpec) -> None:
        super().__init__()
        for name in ("mean", "std"):
            value = torch.tensor(getattr(image, name)).view(1, 3, 1, 1)
            self.register_buffer(name, value, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x.float() * self.std + self.mean) * 255


@dataclass(frozen=True, slots=True)
class Learner:
    """What learns, and where its ranges stand in the build's graph."""

    module: fx.GraphModule
    """(N, 3, H, W) normalised -> (N, classes); evaluation gives what int8 gives."""
    places: Places
    kept: Mapping[str, str]
    """Name of a tensor in it -> of the same one in the network that was begun with."""


def learner(
    begun: Start,
    image: ImageSpec,
    images: Sequence[Tensor],
    scheme: Scheme,
    keep_float: tuple[str, ...],
) -> Learner:
    """Calibrate as the build would, and make the network that learns from there.

    Args:
        begun: shares its parameters with what is made.
        image: the image contract.
        images: (1, H, W, 3) uint8, to calibrate on.
        scheme: of activations.
        keep_float: layers that are not quantised.

    Raises:
        UnknownName: a layer to be kept in float is not there.
    """
    module = begun.program.module(check_guards=False)
    for node in module.graph.nodes:
        free_batch_of(node)
    module.recompile()
    prepared = prepare_pt2e(module, EdgeQuantizer(scheme, Ptq(keep_float=keep_float)))
    with torch.inference_mode():
        for pixels in images:
            prepared(pixels)
    converted = converted_from(copy.deepcopy(prepared))
    made = _Making(begun, prepared, converted)
    made.nodes(image)
    learns = fx.GraphModule(made.root, made.graph)
    learns.graph.eliminate_dead_code()
    learns.recompile()
    places = Places(converted.graph, made.numbers, scheme)
    write(list(made.parts.values()), places.settle(places.present()))
    _check(learns, image)
    return Learner(learns, places, made.kept)


def _check(module: fx.GraphModule, image: ImageSpec) -> None:
    """Whether it takes several images; SpecError if not."""
    planes = torch.zeros(2, 3, image.height, image.width)
    with torch.inference_mode():
        try:
            answers = module(planes)
        except Exception as cause:  # an operator that was traced for one image may raise anything
            reason = str(cause).strip().partition("\n")[0]
            raise SpecError(
                f"this network does not take several images at once, as learning for int8 needs: "
                f"{reason}; keep the batch in front of every shape, and join no constants to it"
            ) from cause
    assert len(answers) == 2


def tensors(learner: Learner, module: nn.Module) -> dict[str, Tensor]:
    """What a copy of the learner has learned, under the names of the network begun with."""
    found = module.state_dict()
    return {name: found[mine] for mine, name in learner.kept.items() if mine in found}


class _Making:
    """Copies a prepared graph node by node; holds what is made meanwhile."""

    def __init__(self, begun: Start, prepared: fx.GraphModule, converted: fx.GraphModule) -> None:
        self.begun, self.prepared = begun, prepared
        self.graph, self.root = fx.Graph(), dict[str, Any]()
        self.new: dict[fx.Node, fx.Node] = {}
        self.kept: dict[str, str] = {}
        """Name of a tensor here -> of the same one in the network that was begun with."""
        self.parts: dict[int, Activation] = {}
        """By the observer's id."""
        self.numbers: dict[fx.Node, int] = {}
        """Each node of the converted graph that quantises -> its activation."""
        self.layers = iter([n for n in converted.graph.nodes if n.target in CONVOLUTIONS])
        self._activations([n for n in converted.graph.nodes if n.target is QUANTIZE])

    def _activations(self, quantizes: Sequence[fx.Node]) -> None:
        """One for each observer; the n-th observer became the n-th node that quantises."""
        observers = [n for n in self.prepared.graph.nodes if is_observer(n) and not of_weight(n)]
        assert len(quantizes) == len(observers)
        for node, place in zip(observers, quantizes, strict=True):
            observer = self.prepared.get_submodule(str(node.target))
            if id(observer) not in self.parts:
                part = Activation(len(self.parts), isinstance(observer, FixedQParamsObserver))
                self.parts[id(observer)] = part
                self.root[_path(part)] = part
                _begin(part, observer, place)
            self.numbers[place] = self.parts[id(observer)].number

    def nodes(self, image: ImageSpec) -> None:
        """Copy all nodes."""
        self.root["pixels"] = Pixels(image)
        planes = self.graph.placeholder("planes")
        for node in self.prepared.graph.nodes:
            if node.target is aten.to.dtype and not self.new.keys() & set(node.all_input_nodes):
                self.new[node] = self.graph.call_module("pixels", (planes,))
            elif is_observer(node):
                self._observer(node)
            elif node.target in CONVOLUTIONS:
                self._layer(node)
            elif node.op == "get_attr":
                self._constant(node)
            elif node.op == "output":
                (logits,) = node.all_input_nodes
                self.graph.output(self.new[logits])
            elif node.op != "placeholder" and all(n in self.new for n in node.all_input_nodes):
                self.new[node] = self.graph.node_copy(node, lambda n: self.new[n])

    def _observer(self, node: fx.Node) -> None:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        if of_weight(node):
            return
        part = self._part(node)
        assert part is not None
        if moves(source) and all(self._part(n) is part for n in operands_of(source)):
            self.new[node] = self.new[source]  # rounded already
        elif source.target in ACTIVATIONS and len(source.users) == 1:
            before = source.args[0]
            assert isinstance(before, fx.Node)
            given = (self.new[before], *ends(source))
            self.new[node] = self.graph.call_module(_path(part), given)
        else:
            self.new[node] = self.graph.call_module(_path(part), (self.new[source],))

    def _part(self, node: fx.Node) -> Activation | None:
        if not is_observer(node):
            return None
        return self.parts[id(self.prepared.get_submodule(str(node.target)))]

    def _layer(self, node: fx.Node) -> None:
        source, weight, bias = [*node.args, None][:3]
        assert isinstance(source, fx.Node)
        assert isinstance(weight, fx.Node)
        around = self._around(next(self.layers))
        rounds = is_observer(weight)
        held = weight.args[0] if rounds else weight
        assert isinstance(held, fx.Node)
        name = str(held.target).removeprefix("network.").removesuffix(".weight")
        path = name
        while path in self.root:
            path += "_again"
        how = Geometry(True) if node.target is aten.linear.default else geometry(node.args[3:])
        padded = source.args[0] if is_observer(source) else source
        if not how.linear and how.padding == (0, 0) and (sides := margin(padded)):
            assert isinstance(padded, fx.Node)
            source, how = padded.args[0], replace(how, padding=sides)
        if f"{name}.weight" in dict(self.begun.base.named_parameters()):
            layer = self._trained(path, name, how, rounds, around)
        else:
            values = [None if n is None else _constant(self.prepared, n) for n in (held, bias)]
            assert values[0] is not None
            layer = Layer(how, values[0], values[1], None, False, rounds, around)
        self.root[path] = layer
        assert isinstance(source, fx.Node)
        self.new[node] = self.graph.call_module(path, (self.new[source],))

    def _trained(
        self,
        path: str,
        name: str,
        how: Geometry,
        rounds: bool,
        around: tuple[Activation, Activation] | None,
    ) -> Layer:
        base, norm_name = self.begun.base, self.begun.norms.get(name)
        named = dict(base.named_parameters())
        norm = base.get_submodule(norm_name) if norm_name else None
        assert norm is None or isinstance(norm, nn.BatchNorm2d)
        weight, bias = named[f"{name}.weight"], named.get(f"{name}.bias")
        self.kept |= {f"{path}.{kind}": f"{name}.{kind}" for kind in ("weight", "bias")}
        if norm is not None:
            self.kept |= {f"{path}.norm.{n}": f"{norm_name}.{n}" for n in norm.state_dict()}
        sixth = name in self.begun.sixths
        return Layer(how, weight, bias, norm, sixth, rounds, around)

    def _around(self, layer: fx.Node) -> tuple[Activation, Activation] | None:
        """What a layer of the converted graph takes and gives, where its weights are exact."""
        source, made = layer.args[0], result_of(layer)
        if weights_of(layer) is None or made is None or not calls(source, DEQUANTIZE):
            return None
        by_number = {part.number: part for part in self.parts.values()}
        first = source.args[0]
        assert isinstance(first, fx.Node)
        return by_number[self.numbers[first]], by_number[self.numbers[made]]

    def _constant(self, node: fx.Node) -> None:
        """Whatever else than a layer's weights the network reads."""
        if all(of_weight(user) or user.target in CONVOLUTIONS for user in node.users):
            return
        path, name = f"constants.{len(self.root)}", str(node.target).removeprefix("network.")
        named = dict(self.begun.base.named_parameters())
        value: Tensor = named[name] if name in named else get_constant(self.prepared, node).clone()
        if name in named:
            self.kept[path] = name
        self.root[path] = value
        self.new[node] = self.graph.get_attr(path)


def _begin(part: Activation, observer: nn.Module, place: fx.Node) -> None:
    """Start with what calibration saw, and with the share of it that the observer covers."""
    if part.fixed:
        return
    scale, zero = place.args[1:3]
    assert isinstance(scale, float)
    assert isinstance(zero, int)
    low, high = float(observer.min_val), float(observer.max_val)  # type: ignore[arg-type]
    reach = (min(low, 0.0), max(high, 0.0))
    part.reach.copy_(torch.tensor(reach))
    if type(observer) is MinMaxObserver:
        return
    if observer.qscheme == torch.per_tensor_symmetric:
        shares = [scale * 127.5 / max(-reach[0], reach[1], 1e-30)] * 2
    else:
        covered = ((LEAST - zero) * scale, (LARGEST - zero) * scale)
        shares = [c / e if e else 1.0 for c, e in zip(covered, reach, strict=True)]
    part.share.copy_(torch.tensor(shares).clamp(0.1, 1))


def _path(part: Activation) -> str:
    return f"int8.{part.number}"


def _constant(module: fx.GraphModule, node: object) -> nn.Parameter:
    return nn.Parameter(get_constant(module, node).clone(), requires_grad=False)
