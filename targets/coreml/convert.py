"""The process that `compiler` starts: `program.pt2` and `job.json` in a folder -> an `.mlpackage`.

A refusal is written to `refusal.txt` in that folder, one line.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed  # registers quantized_decomposed

from targets.coreml import classifier, package
from targets.coreml.job import Job, read
from targets.coreml.toolkit import coremltools

LEFT_OUT = ("com.github.apple.coremltools.conversion_date",)
"""Metadata that differs from one build to the next."""


def main(folder: str) -> None:
    """Convert what lies in `folder`; a refusal is no traceback but a file beside the program."""
    job, model = read(Path(folder))
    program = torch.export.load(Path(folder) / "program.pt2")
    ct = coremltools("building for the backend 'coreml'")
    try:
        converted = _convert(ct, program, job)
    except Exception as cause:  # the converter raises many kinds
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        reason = (lines or [type(cause).__name__])[0]
        (Path(folder) / "refusal.txt").write_text(reason, encoding="utf-8")
        return
    described = _describe(converted.get_spec(), job)
    package.write(
        model, described.SerializeToString(deterministic=True), Path(converted.weights_dir)
    )


def _convert(ct: Any, program: Any, job: Job) -> Any:
    names = [*job.outputs, *([classifier.SOFTMAX] if job.labels else [])]
    return ct.convert(
        program,
        inputs=[
            ct.ImageType(
                name=job.input,
                shape=(1, 3, job.height, job.width),
                color_layout=ct.colorlayout.RGB,
            )
        ],
        outputs=[ct.TensorType(name=name, dtype=np.float32) for name in names],
        minimum_deployment_target=getattr(ct.target, job.deployment_target),
        compute_precision=ct.precision.FLOAT16 if job.half else ct.precision.FLOAT32,
        skip_model_load=True,
    )


def _describe(model: Any, job: Job) -> Any:
    """Metadata that people, Xcode and an app read; the date goes."""
    description = model.description
    metadata = description.metadata
    metadata.shortDescription = f"{job.name}, {job.precision}, built by edgekit"
    for key in LEFT_OUT:
        metadata.userDefined.pop(key, None)
    metadata.userDefined["edgekit.image"] = job.image
    (image,) = description.input
    size = f"{job.width}x{job.height}"
    image.shortDescription = f"RGB camera pixels, {size}; normalisation is inside the model"
    for output in description.output:
        if output.name == job.outputs[0]:
            output.shortDescription = "Logits, float32, one for each class"
    if job.labels:
        metadata.userDefined["com.apple.coreml.model.preview.type"] = "imageClassifier"
        classifier.add(model, job.labels)
    return model
