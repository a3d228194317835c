"""One quantiser for every backend: a float program -> one int8 program (PT2E).

The scheme is what every backend can hold exactly: symmetric per-channel int8 weights, per-tensor
int8 activations, int32 accumulation; max pooling, padding and concatenation share the scale of
their input. `affine` activations have a zero point; `symmetric` ones do not (TensorRT).

Weights stay float behind quantise-dequantise pairs (`fold_quantize=False`): each backend folds
them in its own way.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import fx
from torch.export import ExportedProgram
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer.quantizer import (
    Q_ANNOTATION_KEY,
    FixedQParamsQuantizationSpec,
    QuantizationAnnotation,
    QuantizationSpecBase,
    Quantizer,
    SharedQuantizationSpec,
)

from edgekit.checkpoint import Range
from edgekit.errors import SpecError, UnknownName
from edgekit.lower.export import ACTIVATIONS, aten
from edgekit.lower.forms.integer import (
    CONVOLUTIONS,
    HARD_SWISHES,
    drop_clips,
    integer_forms,
)
from edgekit.lower.int8.bias import CORRECTED_ON, correct_biases
from edgekit.lower.int8.exact import make_exact
from edgekit.lower.int8.observers import (
    DICTATED,
    GATE,
    HARD_GATE,
    PIXEL,
    WEIGHT,
    Observer,
    activation,
)
from edgekit.lower.int8.pairs import SHARING, layer_name
from edgekit.lower.int8.ranges import write_ranges
from edgekit.lower.int8.weights import settle_weights
from edgekit.spec import Scheme


@dataclass(frozen=True, slots=True)
class Ptq:
    """Post-training quantisation: what is to be done otherwise than usual."""

    observer: Observer = "auto"
    keep_float: tuple[str, ...] = ()
    """Layers that are not quantised: their names, as in `features.0.*`."""
    correct_bias: bool = False
    """Move each bias by the mean error that quantising brings to its channel."""


USUAL = Ptq()

PAIRS = {aten.add.Tensor, aten.add_.Tensor, aten.mul.Tensor, aten.mul_.Tensor}
ALONE = {aten.mean.dim, aten.hardsigmoid.default} | HARD_SWISHES
SIGMOIDS = {aten.sigmoid.default, aten.sigmoid_.default}


class EdgeQuantizer(Quantizer):
    """Annotates what has integer kernels.

    Convolutions, linear layers, sums, products, means, hard-swish, sigmoid; and what only moves
    numbers, on one scale: pooling, padding, slices, concatenation, channel shuffle.

    What it does not know stays float, correct and slower.
    """

    def __init__(self, scheme: Scheme, wanted: Ptq):
        self.scheme, self.wanted = scheme, wanted
        self.activation = activation("minmax", self.scheme)

    def transform_for_annotation(self, model: fx.GraphModule) -> fx.GraphModule:
        integer_forms(model)
        return model

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        self.activation = activation(self._observer(model.graph), self.scheme)
        kept = kept_layers(model.graph, self.wanted.keep_float)
        for node in model.graph.nodes:
            if node in kept:
                continue
            if node.target in CONVOLUTIONS:
                self._annotate_convolution(node)
            elif node.target in PAIRS and all(isinstance(a, fx.Node) for a in node.args[:2]):
                self._annotate(node, dict.fromkeys(node.args[:2], self.activation))
            elif node.target in ALONE:
                self._annotate(node, {node.args[0]: self.activation})
            elif node.target in SIGMOIDS:
                _mark(node, {node.args[0]: self.activation}, GATE[self.scheme])
            elif node.target in SHARING and node.meta["val"].is_floating_point():
                self._annotate_sharing(node, [node.args[0]])
            elif node.target is aten.cat.default:
                self._annotate_sharing(node, list(node.args[0]))
        return model

    def validate(self, model: fx.GraphModule) -> None:
        pass

    def _observer(self, graph: fx.Graph) -> str:
        """After a ReLU, symmetric scales have half their steps left: there the range is searched.

        So it is in networks with swish, through which no channel's scale passes: they cannot be
        equalised.
        """
        if self.wanted.observer != "auto":
            return self.wanted.observer
        if self.scheme == "symmetric":
            return "mse"
        return "histogram" if any(_is_swish(node) for node in graph.nodes) else "minmax"

    def _annotate_convolution(self, node: fx.Node) -> None:
        source, weight = node.args[0], node.args[1]
        assert isinstance(source, fx.Node)
        assert isinstance(weight, fx.Node)
        incoming: QuantizationSpecBase = self.activation
        if source.target is aten.to.dtype:  # the camera's pixels
            if self.scheme == "symmetric":  # 0..255 needs a zero point: normalise in float
                _mark(node, {}, self.activation)
                return
            incoming = PIXEL
        self._annotate(node, {source: incoming, weight: WEIGHT})

    def _annotate(self, node: fx.Node, inputs: dict[fx.Node, QuantizationSpecBase | None]) -> None:
        """A fused activation's output is what is quantised, not what comes before it."""
        users = list(node.users)
        if len(users) == 1 and users[0].target in ACTIVATIONS:
            _mark(node, inputs, None)
            gate = users[0].args[1:] == (0.0, 1.0)
            _mark(users[0], {}, HARD_GATE[self.scheme] if gate else self.activation)
        else:
            _mark(node, inputs, self.activation)

    def _annotate_sharing(self, node: fx.Node, sources: list[fx.Node]) -> None:
        shared = SharedQuantizationSpec((sources[0], node))
        inputs: dict[fx.Node, QuantizationSpecBase | None] = dict.fromkeys(sources, shared)
        inputs[sources[0]] = self.activation
        _mark(node, inputs, shared)


def _is_swish(node: fx.Node) -> bool:
    """X * sigmoid(x), or with the hard one: a product with a gate as large as what it gates."""
    both = [a for a in node.args[:2] if isinstance(a, fx.Node)]
    if node.target not in PAIRS or len(both) < 2:
        return False
    gates = [a for a in both if a.target in SIGMOIDS or a.args[1:] == (0.0, 1.0)]
    return bool(gates) and both[0].meta["val"].shape == both[1].meta["val"].shape


def _mark(
    node: fx.Node,
    inputs: dict[fx.Node, QuantizationSpecBase | None],
    output: QuantizationSpecBase | None,
) -> None:
    """Annotate; an input whose scale is fixed where it is made, as a gate's is, keeps that one."""
    inputs = {source: _fixed_output(source) or spec for source, spec in inputs.items()}
    node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(inputs, output, _annotated=True)


def _fixed_output(node: fx.Node) -> FixedQParamsQuantizationSpec | None:
    annotation = node.meta.get(Q_ANNOTATION_KEY)
    made = annotation.output_qspec if annotation else None
    return made if isinstance(made, FixedQParamsQuantizationSpec) else None


def kept_layers(graph: fx.Graph, patterns: Sequence[str]) -> set[fx.Node]:
    """The convolutions and linear layers that one of the patterns names.

    Raises:
        UnknownName: a pattern names no layer.
    """
    named = {n: layer_name(n) for n in graph.nodes if n.target in CONVOLUTIONS}
    kept = set()
    for pattern in patterns:
        found = {n for n, name in named.items() if fnmatchcase(name, pattern)}
        if not found:
            raise UnknownName("layer", pattern, named.values())
        kept |= found
    return kept


def quantise(
    module: fx.GraphModule,
    images: Sequence[torch.Tensor],
    scheme: Scheme,
    wanted: Ptq = USUAL,
    ranges: Mapping[str, Range] | None = None,
) -> ExportedProgram:
    """Calibrate on `images` and convert.

    Args:
        module: float, from `ExportedProgram.module()`; changed.
        images: uint8 (1, H, W, 3) each, already through the image contract.
        scheme: `affine` or `symmetric` activations.
        wanted: what is to be done otherwise than usual.
        ranges: of activations, final, from training for int8; `images` are then not calibrated on.

    Raises:
        CheckpointError: `ranges` are of another network.
        SpecError: nothing in the network could be quantised.
        UnknownName: a layer to be kept in float is not there.
    """
    original = copy.deepcopy(module) if wanted.correct_bias else module
    prepared = prepare_pt2e(module, EdgeQuantizer(scheme, wanted))
    with torch.inference_mode():
        for image in images[: 1 if ranges else None]:  # one: observers of weights must run, too
            prepared(image)
        converted = converted_from(prepared)
        if ranges:
            write_ranges(converted.graph, ranges)
            settle_weights(converted)
        else:
            make_exact(converted, DICTATED)
        if wanted.correct_bias:
            correct_biases(original, converted, images[:CORRECTED_ON])
    result = torch.export.export(converted, (images[0],))
    per_channel = torch.ops.quantized_decomposed.quantize_per_channel.default
    weights = [n.args[0] for n in result.graph.nodes if n.target is per_channel]
    if all(str(weight) == "p_normalise_weight" for weight in weights):  # that one is ours
        raise SpecError(
            "no convolution or linear layer was found to quantise: use --precision fp16"
        )
    return result


def converted_from(prepared: fx.GraphModule) -> fx.GraphModule:
    """The int8 graph of a calibrated one, its scales not yet exact."""
    converted = convert_pt2e(prepared, fold_quantize=False)
    drop_clips(converted)
    return converted
