"""ExportedProgram -> an `.mlpackage` that holds one mlprogram.

The input is an image (RGB), so an app hands over a camera's pixel buffer; normalisation is inside.
`logits` is float32 whatever the precision. Where labels are known the program is a classifier too
(see `classifier`): Xcode's preview and Vision then show names without a line of code.

int8 programs keep PT2E's quantise and dequantise, with int8 weights; what stands between them is
float32, exact, or with `compute = "fp16"` float16, which the Neural Engine wants, and in which an
activation may fall one integer off.

coremltools runs in a process of its own (`convert`): executorch, where it was imported, changes it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.export import ExportedProgram

from edgekit.errors import EdgekitError, SpecError
from edgekit.spec import WEIGHT_ONLY, Artifact, ModelSpec
from targets.coreml import classifier
from targets.coreml.head import for_core_ml
from targets.coreml.job import Job

DEPLOYMENT_TARGETS = (
    *("iOS15", "iOS16", "iOS17", "iOS18", "iOS26"),
    *("macOS12", "macOS13", "macOS14", "macOS15", "macOS26"),
)
WITHOUT_INT8 = ("iOS15", "iOS16", "macOS12", "macOS13")
"""Releases whose Core ML has no quantise and dequantise."""
WITHOUT_INT4 = (*WITHOUT_INT8, "iOS17", "macOS14")
"""Releases whose Core ML has no integers of 4 bits."""

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from targets.coreml.convert import main; main(sys.argv[2])"
)


@dataclass(frozen=True, slots=True)
class Options:
    """The `[options]` of a target whose backend is `coreml`."""

    deployment_target: str = "iOS17"
    """The oldest system that opens the model."""
    compute: str = "fp32"
    """int8 precision only: the type of what stands between the integers."""
    classifier: bool = True
    """Give the label and the probabilities beside the logits, where labels are known."""


def compile(
    program: ExportedProgram,
    spec: ModelSpec,
    options: Mapping[str, str | int | float | bool],
    out: Path,
) -> Artifact:
    """Write `out/model.mlpackage`.

    Raises:
        SpecError: coremltools refused the program, or an option is unknown.
        EdgekitError: the process that converts died.
    """
    chosen = _options(options, spec)
    outputs = len(program.graph_signature.user_outputs)
    labels = classifier.unique(spec.labels) if chosen.classifier and outputs == 1 else ()
    changed = for_core_ml(program, spec.input.shape, probabilities=bool(labels))
    job = Job(
        name=spec.name,
        precision=spec.precision,
        height=spec.image.height,
        width=spec.image.width,
        input=spec.input.name,
        outputs=(spec.output.name, *(f"{spec.output.name}_{n}" for n in range(1, outputs))),
        half=spec.precision == "fp16" or (spec.precision == "int8" and chosen.compute == "fp16"),
        deployment_target=chosen.deployment_target,
        labels=labels,
        image=json.dumps(asdict(spec.image), sort_keys=True),
    )
    model = out / "model.mlpackage"
    _convert(changed, job, model)
    return Artifact(model, _notes(job))


def _options(given: Mapping[str, str | int | float | bool], spec: ModelSpec) -> Options:
    valid: dict[str, tuple[str | bool, ...]] = {
        "deployment_target": DEPLOYMENT_TARGETS,
        "compute": ("fp32", "fp16"),
        "classifier": (True, False),
    }
    for name, value in given.items():
        if not any(value is v or (isinstance(v, str) and value == v) for v in valid.get(name, ())):
            raise SpecError(
                f"[options] {name} = {value!r} is not an option of the backend coreml; valid are "
                f"deployment_target = one of {', '.join(DEPLOYMENT_TARGETS)}; "
                "compute = 'fp32' or 'fp16'; classifier = true or false"
            )
    chosen = Options(**given)  # type: ignore[arg-type]
    if spec.precision.startswith("int8") and chosen.deployment_target in WITHOUT_INT8:
        raise SpecError(
            f"deployment_target = {chosen.deployment_target!r} has no int8 operators in Core ML; "
            "take 'iOS17' or 'macOS14' at least, or another --precision"
        )
    if spec.precision == "int4-weights" and chosen.deployment_target in WITHOUT_INT4:
        raise SpecError(
            f"deployment_target = {chosen.deployment_target!r} has no int4 weights in Core ML; "
            "take --option deployment_target=iOS18 or macOS15 at least, or --precision int8-weights"
        )
    return chosen


def _convert(program: ExportedProgram, job: Job, model: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        folder = Path(name)
        torch.export.save(program, folder / "program.pt2")
        job.write(folder, model)
        command = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), str(folder)]
        # The order of a set, and with it the bytes, must not depend on the process.
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        refusal = folder / "refusal.txt"
        if refusal.exists():
            reason = refusal.read_text(encoding="utf-8")
            raise SpecError(f"coremltools cannot convert this network: {reason}")
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["it said nothing"]
            raise EdgekitError(
                f"the process that converts for Core ML died (exit code {done.returncode}): "
                f"{said[-1]}"
            )


def _notes(job: Job) -> tuple[str, ...]:
    notes = [f"Core ML: opens on {job.deployment_target} and later"]
    if job.precision == "int8":
        between = "float16, for the Neural Engine" if job.half else "float32, exact"
        notes.append(f"Core ML: int8 weights and activations; between them {between}")
    if job.precision in WEIGHT_ONLY:
        notes.append(
            "Core ML: weights are stored as integers; Core ML chooses when they are unpacked"
        )
    if job.labels:
        notes.append("Core ML: gives the label and each label's probability beside the logits")
    return tuple(notes)
