"""ExportedProgram -> one `.onnx` file that ONNX Runtime and TensorRT take.

int8 programs become Q/DQ form: int8 weights behind DequantizeLinear, activations between
QuantizeLinear and DequantizeLinear. fp16 is fp16 throughout, with uint8 in and float32 out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
import torch
from torch import fx

from edgekit.errors import SpecError
from edgekit.spec import Artifact, ModelSpec
from targets.onnx import passes, tensorrt


@dataclass(frozen=True, slots=True)
class Options:
    """The `[options]` of a target whose backend is `onnx`."""

    opset: int = 18
    """TensorRT 8.6 and later, and ONNX Runtime 1.14 and later, read 18."""
    activations: Literal["int8", "uint8"] = "int8"
    """int8 precision only: `uint8` holds the same integers moved by 128."""


def compile(
    program: torch.export.ExportedProgram,
    spec: ModelSpec,
    options: Mapping[str, str | int | float | bool],
    out: Path,
) -> Artifact:
    """Write `out/model.onnx`.

    Raises:
        SpecError: the exporter refused the program, or an option is unknown.
    """
    model = lower(program, spec, _options(options))
    path = out / "model.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return Artifact(path, notes(program))


def lower(
    program: torch.export.ExportedProgram, spec: ModelSpec, chosen: Options
) -> onnx.ModelProto:
    """The graph itself, for whatever reads ONNX.

    Raises:
        SpecError: the exporter refused the program.
    """
    model = _export(program, spec, chosen.opset)
    passes.strip_metadata(model)
    passes.fold_padding(model)
    passes.pool_globally(model)
    if spec.precision == "int8":
        if chosen.activations == "uint8":
            passes.use_uint8_activations(model)
        if spec.scheme == "symmetric":
            tensorrt.check(model)
    if spec.precision == "fp16":
        model = passes.to_fp16(model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as cause:
        raise SpecError(f"the exported ONNX graph is not valid: {cause}") from cause
    return model


def notes(program: torch.export.ExportedProgram) -> tuple[str, ...]:
    """What a reader should know of the graph: the shuffles, which stay transposes."""
    shuffle = torch.ops.aten.channel_shuffle.default
    shuffles = sum(node.target is shuffle for node in program.graph.nodes)
    return (f"channel shuffles: {shuffles}, a transpose each",) if shuffles else ()


def _options(given: Mapping[str, str | int | float | bool]) -> Options:
    valid = {"opset": range(17, 24), "activations": ("int8", "uint8")}
    for name, value in given.items():
        if value not in valid.get(name, ()):
            raise SpecError(
                f"[options] {name} = {value!r} is not an option of the backend onnx; "
                "valid are opset = 17 to 23, activations = 'int8' or 'uint8'"
            )
    return Options(**given)  # type: ignore[arg-type]


def _export(program: torch.export.ExportedProgram, spec: ModelSpec, opset: int) -> onnx.ModelProto:
    sample = torch.zeros(spec.input.shape, dtype=torch.uint8)
    if spec.precision == "int8":
        module = program.module(check_guards=False)
        _fold_weights(module)
        program = torch.export.export(module, (sample,))
    count = len(program.graph_signature.user_outputs)
    names = [spec.output.name, *(f"{spec.output.name}_{n}" for n in range(1, count))]
    try:
        exported = torch.onnx.export(
            program,
            (sample,),
            dynamo=True,
            external_data=False,
            verbose=False,
            opset_version=opset,
            input_names=[spec.input.name],
            output_names=names,
        )
    except Exception as cause:  # the exporter raises many kinds
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        raise SpecError(f"torch.onnx cannot export this network: {lines[0]}") from cause
    assert exported is not None
    return exported.model_proto


def _fold_weights(module: fx.GraphModule) -> None:
    """quantize_per_channel(weight) -> the int8 weight itself."""
    quantize = torch.ops.quantized_decomposed.quantize_per_channel.default
    for node in [n for n in module.graph.nodes if n.target is quantize]:
        arguments = [_constant(module, a) if isinstance(a, fx.Node) else a for a in node.args]
        name = f"{str(node.args[0].target).replace('.', '_')}_int8"
        module.register_buffer(name, quantize(*arguments))
        with module.graph.inserting_before(node):
            folded = module.graph.get_attr(name)
        folded.meta = dict(node.meta)
        node.replace_all_uses_with(folded)
        module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    module.recompile()


def _constant(module: fx.GraphModule, node: fx.Node) -> torch.Tensor:
    assert node.op == "get_attr", f"{node} is not a constant"
    value: object = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    assert isinstance(value, torch.Tensor)
    return value.detach()
