"""What a bundle says about itself to people: README.md, report.json and report.html."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgekit.device.describe import placement_lines
from edgekit.device.measure.interval import wilson
from edgekit.lower.gate.taps import LayerSnr
from edgekit.lower.report.data import Explained, Measured, as_json, gather
from edgekit.lower.report.fusion import fusion_lines
from edgekit.lower.report.page import page
from edgekit.manifest import PAGE, REPORT, Manifest

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


def write(
    folder: Path,
    manifest: Manifest,
    explained: Explained,
    measured: Measured,
    layers: Mapping[str, Sequence[LayerSnr]],
) -> None:
    """Write README.md, report.json and report.html into a bundle.

    Args:
        folder: the bundle's.
        manifest: complete but for the file list.
        explained: of its model file.
        measured: on this machine.
        layers: of each hop that was looked into, by its name.
    """
    found = gather(manifest, explained, measured, layers)
    (folder / "README.md").write_text(readme(manifest, explained), encoding="utf-8")
    (folder / REPORT).write_text(as_json(found), encoding="utf-8")
    (folder / PAGE).write_text(page(found), encoding="utf-8")


def readme(manifest: Manifest, explained: Explained) -> str:
    """The model card, Markdown; the same for equal builds."""
    return "\n".join(_sections(manifest, explained)) + "\n"


def _sections(manifest: Manifest, explained: Explained) -> Iterable[str]:
    image, made, cost = manifest.image, manifest.provenance, explained.cost
    yield f"# {manifest.name} for {manifest.target}, {manifest.precision}\n"
    size = explained.model_bytes / 1e6
    yield f"- backend: {manifest.backend}, file `{manifest.model}`, {size:.2f} MB"
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
        low, high = wilson(found.top1, found.images)
        yield f"- top-1 {found.top1:.1%} on {found.images} images ({found.data}); "
        yield f"  95 % interval {low:.1%} to {high:.1%}"
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
    yield "\n## What the accelerator takes\n"
    placed = explained.placement
    yield from ([f"- {line}" for line in placement_lines(placed)] if placed else ["Not known."])
    yield from (f"- {line}" for line in fusion_lines(explained.fusion))
    yield "\n`report.html` shows all of it.\n"
    yield "## Use\n"
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
