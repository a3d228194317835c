"""ExportedProgram -> one `.onnx` file that ONNX Runtime and TensorRT take.

int8 programs become Q/DQ form: int8 weights behind DequantizeLinear, activations between
QuantizeLinear and DequantizeLinear; integer weights alone are the former. fp16 is fp16 throughout,
with uint8 in and float32 out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
import torch
from torch.export import Dim

from edgekit.errors import SpecError
from edgekit.spec import WEIGHT_ONLY, Artifact, ModelSpec
from targets import weights
from targets.onnx import passes, tensorrt

BATCH = "batch"
"""The name of the first axis where it is free; `session` knows it."""
INT4_OPSET = 21
"""The first that has int4; ONNX Runtime 1.20 and later read it."""
UNPACKED = (
    "ONNX Runtime: integer weights become float32 once, at load: memory and speed are float's"
)


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
    unpacked = (UNPACKED,) if spec.precision in WEIGHT_ONLY else ()
    return Artifact(path, (*notes(program), *unpacked))


def lower(
    program: torch.export.ExportedProgram,
    spec: ModelSpec,
    chosen: Options,
    padded: Sequence[str] = passes.PADDED,
) -> onnx.ModelProto:
    """The graph itself, for whatever reads ONNX.

    Args:
        program: float, or quantised.
        spec: what is to come of it.
        chosen: every choice made.
        padded: operators that zero padding before them becomes a part of.

    Raises:
        SpecError: the exporter refused the program.
    """
    opset = max(chosen.opset, INT4_OPSET) if spec.precision == "int4-weights" else chosen.opset
    model = _export(program, spec, opset)
    passes.strip_metadata(model)
    passes.fold_padding(model, padded)
    passes.pool_globally(model)
    if spec.precision == "int8":
        if chosen.activations == "uint8":
            passes.use_uint8_activations(model)
        if spec.scheme == "symmetric":
            tensorrt.check(model)
    if spec.precision == "int4-weights":
        passes.pack_int4(model)
    if spec.precision == "fp16":
        model = passes.to_fp16(model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as cause:
        raise SpecError(f"the exported ONNX graph is not valid: {cause}") from cause
    return model


def notes(program: torch.export.ExportedProgram) -> tuple[str, ...]:
    """What a reader should know of the graph: the shuffles, which stay transposes."""
    shuffle = torch.ops.aten.channel_shuffle.default
    shuffles = sum(node.target is shuffle for node in program.graph.nodes)
    free = "the batch is free: the file takes (batch, height, width, 3), a session one image"
    said = {f"channel shuffles: {shuffles}, a transpose each": shuffles}
    return tuple(text for text, holds in {**said, free: program.range_constraints}.items() if holds)


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
    free = bool(program.range_constraints)  # the batch: there is no other free axis
    sample = torch.zeros((2 if free else 1, *spec.input.shape[1:]), dtype=torch.uint8)
    if spec.precision == "int8" or spec.precision in WEIGHT_ONLY:
        module = program.module(check_guards=False)
        weights.fold(module)
        shapes = ({0: Dim(BATCH, min=1)},) if free else None
        program = torch.export.export(module, (sample,), dynamic_shapes=shapes)
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
    model: onnx.ModelProto = exported.model_proto  # made anew at each look
    if free:
        passes.name_batch(model, BATCH)
    return model
