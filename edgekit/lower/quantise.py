"""One quantiser for every backend: a float program -> one int8 program (PT2E).

The scheme is what every backend can hold exactly: symmetric per-channel int8 weights, per-tensor
int8 activations, int32 accumulation; max pooling, padding and concatenation share the scale of
their input. `affine` activations have a zero point; `symmetric` ones do not (TensorRT).

Weights stay float behind quantise-dequantise pairs (`fold_quantize=False`): each backend folds
them in its own way.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torchao.quantization.pt2e.observer import (
    HistogramObserver,
    MinMaxObserver,
    PerChannelMinMaxObserver,
)
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer.quantizer import (
    Q_ANNOTATION_KEY,
    FixedQParamsQuantizationSpec,
    QuantizationAnnotation,
    QuantizationSpec,
    QuantizationSpecBase,
    Quantizer,
    SharedQuantizationSpec,
)

from edgekit.errors import SpecError
from edgekit.lower.export import ACTIVATIONS, aten
from edgekit.spec import Scheme

EPS = 2.0**-24
"""Smallest scale: low enough to never round a real range up, above zero for constant tensors."""

WEIGHT = QuantizationSpec(
    dtype=torch.int8,
    observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=EPS),
    quant_min=-127,
    quant_max=127,
    qscheme=torch.per_channel_symmetric,
    ch_axis=0,
)

PIXEL = FixedQParamsQuantizationSpec(
    dtype=torch.int8,
    scale=1.0,
    zero_point=-128,
    quant_min=-128,
    quant_max=127,
    qscheme=torch.per_tensor_affine,
)
"""A camera pixel, 0 to 255, as int8 without loss: moved by 128."""


def _activation(observer: type, qscheme: torch.qscheme) -> QuantizationSpec:
    return QuantizationSpec(
        dtype=torch.int8,
        observer_or_fake_quant_ctr=observer.with_args(eps=EPS),  # type: ignore[attr-defined]
        quant_min=-128,
        quant_max=127,
        qscheme=qscheme,
    )


ACTIVATION: dict[Scheme, QuantizationSpec] = {
    "affine": _activation(MinMaxObserver, torch.per_tensor_affine),
    "symmetric": _activation(HistogramObserver, torch.per_tensor_symmetric),
}
"""`affine`: the range seen in calibration, which on equalised networks beats cutting its tails off.
`symmetric`: after a ReLU only half the steps are left, so the range of least error is searched
for."""

CONVOLUTIONS = {aten.conv2d.default, aten.linear.default}
SUMS = {aten.add.Tensor, aten.add_.Tensor}
MEANS = {aten.mean.dim, aten.adaptive_avg_pool2d.default, aten.avg_pool2d.default}
SHARING = {aten.max_pool2d.default, aten.pad.default, aten.flatten.using_ints}


class EdgeQuantizer(Quantizer):
    """Annotates convolutions, linear layers, sums, means, pooling, padding, concatenation.

    What it does not know stays float, correct and slower.
    """

    def __init__(self, scheme: Scheme):
        self.scheme = scheme
        self.activation = ACTIVATION[scheme]

    def transform_for_annotation(self, model: fx.GraphModule) -> fx.GraphModule:
        make_padding_explicit(model)
        return model

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        for node in model.graph.nodes:
            if node.target in CONVOLUTIONS:
                self._annotate_convolution(node)
            elif node.target in SUMS and all(isinstance(a, fx.Node) for a in node.args[:2]):
                self._annotate(node, dict.fromkeys(node.args[:2], self.activation))
            elif node.target in MEANS:
                self._annotate(node, {node.args[0]: self.activation})
            elif node.target in SHARING:
                self._annotate_sharing(node, [node.args[0]])
            elif node.target is aten.cat.default:
                self._annotate_sharing(node, list(node.args[0]))
        return model

    def validate(self, model: fx.GraphModule) -> None:
        pass

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
            _mark(users[0], {}, self.activation)
        else:
            _mark(node, inputs, self.activation)

    def _annotate_sharing(self, node: fx.Node, sources: list[fx.Node]) -> None:
        shared = SharedQuantizationSpec((sources[0], node))
        inputs: dict[fx.Node, QuantizationSpecBase | None] = dict.fromkeys(sources, shared)
        inputs[sources[0]] = self.activation
        _mark(node, inputs, shared)


def _mark(
    node: fx.Node,
    inputs: dict[fx.Node, QuantizationSpecBase | None],
    output: QuantizationSpecBase | None,
) -> None:
    node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(dict(inputs), output, _annotated=True)


def make_padding_explicit(model: fx.GraphModule) -> None:
    """conv(x, padding=p, stride>1) -> conv(pad(x, p), padding=0), so that padding is quantised.

    Padding that is given by name (`same`, `valid`) becomes numbers.
    TFLite's strided convolutions pad on one side only; its converter would otherwise put a float
    padding between the quantised operators. ONNX folds the padding back into the convolution.
    """
    graph, conv = model.graph, aten.conv2d.default
    for node in [n for n in graph.nodes if n.target in (conv, aten.conv2d.padding)]:
        names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
        default = dict(zip(names[2:], (None, [1, 1], [0, 0], [1, 1], 1), strict=True))
        given = default | dict(zip(names, node.args, strict=False)) | node.kwargs
        top, bottom, left, right = _sides(given)
        if (top, left) == (bottom, right) and (max(given["stride"]) == 1 or not any((top, left))):
            given["padding"] = [top, left]
        else:
            source, amount = given["input"], [left, right, top, bottom]
            with graph.inserting_before(node):
                padded = graph.call_function(aten.pad.default, (source, amount))
            padded.meta = dict(source.meta)
            padded.meta["val"] = aten.pad.default(source.meta["val"], amount)
            given |= {"input": padded, "padding": [0, 0]}
        node.target, node.args, node.kwargs = conv, tuple(given[name] for name in names), {}
    graph.lint()
    model.recompile()


def _sides(given: dict[str, Any]) -> tuple[int, int, int, int]:
    """Top, bottom, left and right padding of a convolution's arguments."""
    padding = given["padding"]
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":
        kernel = given["weight"].meta["val"].shape[2:]
        tall, wide = (d * (k - 1) for d, k in zip(given["dilation"], kernel, strict=True))
        return tall // 2, tall - tall // 2, wide // 2, wide - wide // 2
    height, width = padding
    return height, height, width, width


def quantise(
    module: fx.GraphModule, images: Sequence[torch.Tensor], scheme: Scheme
) -> ExportedProgram:
    """Calibrate on `images` and convert.

    Args:
        module: float, from `ExportedProgram.module()`; changed.
        images: uint8 (1, H, W, 3) each, already through the image contract.
        scheme: `affine` or `symmetric` activations.

    Raises:
        SpecError: nothing in the network could be quantised.
    """
    prepared = prepare_pt2e(module, EdgeQuantizer(scheme))
    with torch.inference_mode():
        for image in images:
            prepared(image)
        converted = convert_pt2e(prepared, fold_quantize=False)
    result = torch.export.export(converted, (images[0],))
    per_channel = torch.ops.quantized_decomposed.quantize_per_channel.default
    weights = [n.args[0] for n in result.graph.nodes if n.target is per_channel]
    if all(str(weight) == "p_normalise_weight" for weight in weights):  # that one is ours
        raise SpecError(
            "no convolution or linear layer was found to quantise: use --precision fp16"
        )
    return result
