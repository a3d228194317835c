"""ExportedProgram -> one `.onnx` file that OpenVINO takes.

ONNX, not OpenVINO's own IR: one file in place of two, the same start-up (reading takes a tenth of
what compiling takes), and the graph that the backend `onnx` ships as well. Q/DQ pairs become
integer kernels when the file is loaded; int8 activations are stored as uint8, the same integers
moved by 128, because x86 has instructions for those.
"""

from pathlib import Path

import torch

from edgekit.errors import SpecError
from edgekit.spec import WEIGHT_ONLY, Artifact, ModelSpec, Options
from targets.onnx.compiler import Options as OnnxOptions
from targets.onnx.compiler import lower, notes
from targets.openvino.runtime import api, line

UNPACKED = (
    "OpenVINO: integer weights of convolutions become float32 once, at load: memory and speed are "
    "float's; those of linear layers stay integers"
)

PADDED = ("Conv", "MaxPool")
"""Not an average pool: OpenVINO 2026.4 pads the integers with 0, which is not the number 0."""


def compile(
    program: torch.export.ExportedProgram, spec: ModelSpec, options: Options, out: Path
) -> Artifact:
    """Write `out/model.onnx`.

    Raises:
        SpecError: the exporter or OpenVINO refused the program, or an option is given.
        MissingPackage: openvino is not installed.
    """
    if options:
        raise SpecError(f"openvino takes no compiler options, got {sorted(options)}")
    model = lower(program, spec, OnnxOptions(activations="uint8"), PADDED)
    content = model.SerializeToString(deterministic=True)
    try:
        api("building for OpenVINO").Core().read_model(content)
    except RuntimeError as cause:
        raise SpecError(f"OpenVINO cannot read this network: {line(cause)}") from cause
    path = out / "model.onnx"
    path.write_bytes(content)
    unpacked = (UNPACKED,) if spec.precision in WEIGHT_ONLY else ()
    return Artifact(path, (*notes(program), *unpacked))
