"""ExportedProgram -> one `.tflite` file, by litert-torch.

Every file takes uint8 `image` and gives float32 `logits`. int8 programs arrive quantised; fp16
stores the weights as fp16 and computes in the runtime's own precision; integer weights stand in the
file as such, behind a DEQUANTIZE each.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import fx

from edgekit.errors import SpecError
from edgekit.spec import WEIGHT_ONLY, Artifact, ModelSpec
from targets import weights
from targets.litert import forms, interface, layout, stored

FP16_RECIPE = [
    {
        "regex": ".*",
        "operation": "*",
        "algorithm_key": "float_casting",
        "op_config": {
            "weight_tensor_config": {
                "num_bits": 16,
                "symmetric": True,
                "granularity": "TENSORWISE",
                "dtype": "FLOAT",
            },
            "compute_precision": "FLOAT",
            "explicit_dequantize": True,
            "skip_checks": False,
            "min_weight_elements": 0,
        },
    }
]


def compile(
    program: torch.export.ExportedProgram,
    spec: ModelSpec,
    options: Mapping[str, str | int | float | bool],
    out: Path,
) -> Artifact:
    """Write `out/model.tflite`.

    Raises:
        SpecError: the converter refused the program, or an option is unknown.
    """
    if options:
        raise SpecError(f"litert takes no compiler options, got {sorted(options)}")
    module = program.module(check_guards=False)
    shuffles = layout.hide_shuffles(module)
    forms.cut_transposed_convolutions(module)
    baked = weights.bake(module) if spec.precision in WEIGHT_ONLY else []
    content = _convert(module, spec)
    content = interface.camera_in_float_out(content, spec.input.name, spec.output.name)
    if spec.precision == "fp16":
        content = _cast_weights(content)
    notes = [f"channel shuffles: {shuffles}, a transpose each"] if shuffles else []
    if baked:
        content, found = stored.as_integers(content, baked)
        notes.append(_stored_how(baked, found))
    path = out / "model.tflite"
    path.write_bytes(content)
    return Artifact(path, tuple(notes))


def _stored_how(baked: Sequence[weights.Integers], found: int) -> str:
    if any(weight.bits == 4 for weight in baked):
        how = "XNNPACK unpacks no int4: its layers run on slower kernels, about 2.5 times the time"
    else:
        how = "XNNPACK unpacks them once, when the model is loaded: memory and speed are float's"
    return f"LiteRT: {found} of {len(baked)} weights are stored as integers; {how}"


def _convert(module: fx.GraphModule, spec: ModelSpec) -> bytes:
    import litert_torch
    from litert_torch.quantize.pt2e_quantizer import (
        PT2EQuantizer,
        get_symmetric_quantization_config,
    )
    from litert_torch.quantize.quant_config import QuantConfig

    sample = torch.zeros(spec.input.shape, dtype=torch.uint8)
    settings = None
    if spec.precision == "int8":
        sample = sample.float()
        _take_float(module)
        _tell_biases_apart(module)
        quantizer = PT2EQuantizer().set_global(get_symmetric_quantization_config())
        settings = QuantConfig(pt2e_quantizer=quantizer)
    try:
        with layout.taught():
            edge = litert_torch.convert(_Eval(module), (sample,), quant_config=settings)
    except Exception as cause:  # the converter raises many kinds
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        raise SpecError(f"litert-torch cannot convert this network: {lines[0]}") from cause
    return bytes(edge.model_content())


class _Eval(torch.nn.Module):
    """An exported module has no train and eval modes; the converter asks for eval."""

    def __init__(self, module: fx.GraphModule):
        super().__init__()
        self.module = module
        self.training = False

    def forward(self, image: torch.Tensor) -> Any:
        return self.module(image)


def _take_float(module: fx.GraphModule) -> None:
    """Drop the uint8 -> float cast: the quantised input then becomes the model's own input."""
    aten = torch.ops.aten
    for node in list(module.graph.nodes):
        if node.target is aten._assert_tensor_metadata.default:
            module.graph.erase_node(node)
        elif node.target is aten.to.dtype and node.args[1] is torch.float32:
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
    module.recompile()


def _tell_biases_apart(module: fx.GraphModule) -> None:
    """Move one value of a bias whose values are all equal by one unit in the last place.

    The converter (litert-torch 0.10) keeps such a constant as one number, and quantises it with the
    first channel's scale for all channels: wrong by their ratio.
    """
    layers = (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default)
    for node in module.graph.nodes:
        given = node.args[2] if node.target in layers and len(node.args) > 2 else None
        if isinstance(given, fx.Node) and given.op == "get_attr":
            owner, _, name = str(given.target).rpartition(".")
            part = module.get_submodule(owner)
            bias: torch.Tensor = getattr(part, name)
            if bias.numel() > 1 and bias[0] != 0 and bool((bias == bias[0]).all()):
                moved = bias.detach().clone()  # the program's own may not be written into
                moved[-1] = torch.nextafter(moved[-1], torch.zeros(()))
                if name in part._parameters:
                    part._parameters[name] = torch.nn.Parameter(moved, requires_grad=False)
                else:
                    part.register_buffer(name, moved)


def _cast_weights(content: bytes) -> bytes:
    from ai_edge_quantizer import quantizer

    return bytes(quantizer.Quantizer(content, FP16_RECIPE).quantize().quantized_model)
