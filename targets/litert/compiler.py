"""ExportedProgram -> one `.tflite` file, by litert-torch.

Every file takes uint8 `image` and gives float32 `logits`. int8 programs arrive quantised; fp16
stores the weights as fp16 and computes in the runtime's own precision.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import fx

from edgekit.errors import SpecError
from edgekit.spec import Artifact, ModelSpec
from targets.litert import interface

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
    content = _convert(program, spec)
    content = interface.camera_in_float_out(content, spec.input.name, spec.output.name)
    if spec.precision == "fp16":
        content = _cast_weights(content)
    path = out / "model.tflite"
    path.write_bytes(content)
    return Artifact(path)


def _convert(program: torch.export.ExportedProgram, spec: ModelSpec) -> bytes:
    import litert_torch
    from litert_torch.quantize.pt2e_quantizer import (
        PT2EQuantizer,
        get_symmetric_quantization_config,
    )
    from litert_torch.quantize.quant_config import QuantConfig

    module = program.module(check_guards=False)
    sample = torch.zeros(spec.input.shape, dtype=torch.uint8)
    settings = None
    if spec.precision == "int8":
        sample = sample.float()
        _take_float(module)
        quantizer = PT2EQuantizer().set_global(get_symmetric_quantization_config())
        settings = QuantConfig(pt2e_quantizer=quantizer)
    try:
        with _padding_in_nhwc():
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


@contextmanager
def _padding_in_nhwc() -> Iterator[None]:
    """Teach the converter's layout pass to move zero padding to NHWC.

    Without it each padding stays NCHW between two transposes (litert-torch 0.10).
    """
    from litert_torch._convert.fx_passes.optimize_layout_transposes_pass import layout_rewrite

    target = torch.ops.aten.constant_pad_nd.default
    if target in layout_rewrite.rewriters:  # a later litert-torch may know how
        yield
        return

    def rewrite(node: fx.Node) -> None:
        amounts = node.args[1]
        assert isinstance(amounts, (list, tuple))
        left_right_top_bottom = [*amounts, 0, 0, 0, 0][:4]
        node.args = (node.args[0], [0, 0, *left_right_top_bottom], *node.args[2:])

    layout_rewrite.rewriters[target] = rewrite
    try:
        yield
    finally:
        del layout_rewrite.rewriters[target]


def _cast_weights(content: bytes) -> bytes:
    from ai_edge_quantizer import quantizer

    return bytes(quantizer.Quantizer(content, FP16_RECIPE).quantize().quantized_model)
