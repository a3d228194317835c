"""What a bundle says about itself to people (README.md), and about the day (report.json)."""

import datetime
import json
import platform
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from edgekit.cost.layers import Cost
from edgekit.device.golden import run_input
from edgekit.manifest import Manifest
from edgekit.spec import Session

TOOLS = ("edgekit", "torch", "torchao")
BACKEND_TOOLS = {
    "litert": ("litert-torch", "litert-converter", "ai-edge-litert", "ai-edge-quantizer"),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "onnxruntime", "openvino"),
    "executorch": ("executorch",),
    "coreml": ("coremltools",),
}


def tool_versions(backend: str) -> dict[str, str]:
    """Versions of the packages whose change may change the artifact."""
    found = {}
    for name in (*TOOLS, *BACKEND_TOOLS.get(backend, ())):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine_report(session: Session, sample: np.ndarray, seconds: float) -> str:
    """report.json: latency on this machine, and how long the build took.

    Args:
        session: the bundle's own, open.
        sample: (1, H, W, 3) uint8.
        seconds: time the build took.
    """
    times = []
    for _ in range(25):
        started = time.perf_counter_ns()
        run_input(session, sample)
        times.append((time.perf_counter_ns() - started) / 1e6)
    content = {
        "built": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "build_seconds": round(seconds, 1),
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "latency_ms": {
            "p50": round(float(np.percentile(times[5:], 50)), 3),
            "p95": round(float(np.percentile(times[5:], 95)), 3),
            "runs": len(times[5:]),
        },
        "runtime": list(session.notes),
    }
    return json.dumps(content, indent=2) + "\n"


def readme(manifest: Manifest, cost: Cost, size: int) -> str:
    """The model card, Markdown.

    Args:
        manifest: complete but for the file list.
        cost: of the float network.
        size: of the model file, bytes.
    """
    return "\n".join(_sections(manifest, cost, size)) + "\n"


def _sections(manifest: Manifest, cost: Cost, size: int) -> Iterable[str]:
    image, made = manifest.image, manifest.provenance
    yield f"# {manifest.name} for {manifest.target}, {manifest.precision}\n"
    yield f"- backend: {manifest.backend}, file `{manifest.model}`, {size / 1e6:.2f} MB"
    yield f"- {cost.macs / 1e6:.1f} M multiply-accumulates"
    yield f"- {cost.parameters / 1e6:.2f} M parameters"
    yield f"- {manifest.outputs[0].shape[1]} classes, in `{manifest.labels}`"
    yield (
        f"- input `{manifest.inputs[0].name}`: uint8, (1, {image.height}, {image.width}, 3), RGB "
        "camera pixels, 0 to 255; normalisation is inside the model"
    )
    yield f"- output `{manifest.outputs[0].name}`: float32 logits"
    yield f"- pixels are prepared by: {image.fit}"
    if image.fit == "crop":
        yield f"  (centred box, {image.crop_fraction:g} of the largest), {image.interpolation}"
    if manifest.accuracy:
        found = manifest.accuracy
        yield f"- top-1 {found.top1:.1%} on {found.images} images ({found.data})"
    yield f"- made of {made.architecture} {dict(made.arguments)}, checkpoint sha256 "
    yield f"  `{made.checkpoint_sha256 or 'none: the network brought its own weights'}`\n"
    yield "## Proof: each step against the one before it\n"
    yield "| hop | images | SNR, dB | max error | top-1 agreement | held to |"
    yield "|---|---|---|---|---|---|"
    for hop in manifest.parity:
        held = hop.tolerance
        yield (
            f"| {hop.name} | {hop.images} | {hop.snr_db:.1f} | {hop.max_abs_error:.3g} | "
            f"{hop.top1_agreement:.1%} | {held.snr_db:.0f} dB, {held.max_abs_error:.3g}, "
            f"{held.top1_agreement:.0%} |"
        )
    yield "\n## Use\n"
    yield "    edgekit verify .          check every byte, replay the golden frames"
    yield "    edgekit run . SOURCE      an image, a folder, a clip, a camera"
    if "TensorrtExecutionProvider" in manifest.session.providers:
        yield from _tensorrt(manifest)
    for note in manifest.notes:
        yield f"\n{note}"


def _tensorrt(manifest: Manifest) -> Iterable[str]:
    flag = {"fp16": " --fp16", "int8": " --int8 --fp16"}.get(manifest.precision, "")
    yield "\n## TensorRT\n"
    yield "ONNX Runtime's TensorRT provider builds an engine at the first load and keeps it in"
    yield f"`{manifest.session.engine_cache}`, in a folder named after the GPU, TensorRT and the"
    yield "driver. To build and time one by hand, on the Jetson:\n"
    yield f"    trtexec --onnx={manifest.model}{flag} --saveEngine=model.engine\n"
    yield "Not run on a Jetson by this build: it was proven on ONNX Runtime's CPU provider, and the"
    yield "graph was checked against TensorRT's rules for Q/DQ."
