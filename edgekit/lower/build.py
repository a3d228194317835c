"""From a network to a bundle: the order of the steps, and nothing else.

load -> fold -> export -> quantise -> compile -> golden frames -> seal, each behind its gate
"""

import dataclasses
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from edgekit import bundle
from edgekit.atomic import writing
from edgekit.bundle import Bundle
from edgekit.errors import InputError, StorageError
from edgekit.lower import calibrate, export, trained
from edgekit.lower.calibrate import Images
from edgekit.lower.gate import edges, parity, plot
from edgekit.lower.gate.packaged import answers, packaged
from edgekit.lower.gate.parity import HopError
from edgekit.lower.int8.bias import CORRECTED_ON
from edgekit.lower.int8.sensitivity import read_budget
from edgekit.lower.load import load_network
from edgekit.lower.network import Network
from edgekit.lower.plan import Plan, Request, make_plan
from edgekit.lower.prepare import Say
from edgekit.lower.prove import Proof, prove
from edgekit.lower.report import card as report
from edgekit.lower.report import data as report_data
from edgekit.lower.report.data import Explained
from edgekit.manifest import SCHEMA, Golden, Manifest, Provenance
from edgekit.spec import WEIGHT_ONLY, ImageSpec

UNTRAINED = "random weights: to measure latency and memory with; its answers mean nothing"
STORED_FOLDED = "the weights were stored with batch norm folded: the parity gate starts there"
GOLDEN = 4
"""Frames that travel in the bundle."""


def build(request: Request, say: Say) -> Bundle:
    """Build one bundle and read it back.

    Args:
        request: what to build.
        say: told what is being done, a line at a time.

    Raises:
        ParityError: a hop was breached; nothing is left behind but `OUT.parity.html`, which shows
            every layer of it.
        CheckFailed: no fallback is wanted, and something falls back.
        InputError, MissingPackage: what was given cannot be used.
    """
    started = time.perf_counter()
    plan = make_plan(request)
    network = load_network(
        request.model, request.weights, request.labels, request.image, request.arguments
    )
    out = request.out or Path(f"{network.name}-{plan.target.name}-{plan.precision}")
    chart = out.with_name(f"{out.name}.parity.html")
    try:
        with writing(out, request.force) as folder:
            images = read_images(request.calibration, network.image)
            if plan.precision == "int8" and not trained.ranges_of(plan, network):
                calibrate.check_for_quantising(images)
            say(f"{network.name}: {len(images.inputs)} images from {images.source}")
            budget = None
            if request.max_drop is not None and request.evaluate is not None:
                budget = read_budget(request.max_drop, request.evaluate, network)
            proof = prove(plan, network, images, folder, say, budget)
            explained = report_data.explain(plan, network, proof)
            for line in report_data.placement_said(explained):
                say(line)
            if request.no_fallback:
                report_data.refuse_fallback(explained, plan)
            _finish(plan, network, images, proof, explained, folder, started)
    except HopError as breach:
        raise _drawn(breach, chart) from breach
    chart.unlink(missing_ok=True)  # of a build that was refused before
    say(f"reading {out} back")
    return bundle.read(out)


def _drawn(breach: HopError, chart: Path) -> HopError:
    """The same breach, its layers drawn into `chart`; without layers or room there, as it is."""
    if not breach.layers:
        return breach
    try:
        chart.write_text(plot.page(breach), encoding="utf-8")
    except OSError:
        return breach
    message = f"{breach}; every layer of the hop is drawn in {chart}"
    return HopError(message, breach.hop, breach.layers, breach.snr_db)


def read_images(folder: Path | None, image: ImageSpec) -> Images:
    """The user's images, or the sample photographs."""
    if folder is None:
        return calibrate.from_photographs(image)
    if not folder.is_dir():
        raise InputError(f"--calibration {folder} is not a folder of images")
    return calibrate.from_folder(folder, image)


def _finish(
    plan: Plan,
    network: Network,
    images: Images,
    proof: Proof,
    explained: Explained,
    folder: Path,
    started: float,
) -> None:
    """Golden frames, labels, manifest, report; and the last hop, on the files as written."""
    few, odd = images.first(parity.IMAGES), edges.frames()
    model = proof.artifact.model
    try:
        bundle.write_labels(folder / "labels.txt", network.labels)
        with closing(plan.load(model, plan.session)) as session:
            every = answers(session, [*few.frames, *odd.values()], network.image)
            elapsed = time.perf_counter() - started
            measured = report_data.measure(session, images.inputs[0], elapsed)
        logits = every[: len(few.frames)]
        golden = _write_golden(few, logits, network.image, folder)
        peak = float(np.abs(logits).max())
        manifest = _manifest(plan, network, images, proof, golden, peak, folder)
        bundle.seal(folder, manifest)
        hop = packaged(folder, network, few.frames, odd, every)
        manifest = dataclasses.replace(manifest, parity=(*manifest.parity, hop))
        report.write(folder, manifest, explained, measured, proof.layers)
        bundle.seal(folder, manifest)  # anew: now the last hop and the card are in it
    except OSError as cause:
        raise StorageError.from_os(cause, folder) from cause


def _write_golden(
    images: Images, logits: np.ndarray, image: ImageSpec, folder: Path
) -> tuple[Golden, ...]:
    """The frames that the model is surest of, so that another CPU's rounding keeps the answer."""
    import cv2

    margins = [float(np.diff(np.sort(row)[-2:])[0]) if row.size > 1 else 0.0 for row in logits]
    surest = sorted(np.argsort(margins)[::-1][:GOLDEN].tolist())
    (folder / "golden").mkdir()
    golden = []
    for n, i in enumerate(surest):
        entry = Golden(f"golden/{n}.png", f"golden/{n}_input.npy", f"golden/{n}_output.npy")
        encoded, data = cv2.imencode(".png", images.frames[i][:, :, ::-1])
        assert encoded
        (folder / entry.frame).write_bytes(data.tobytes())
        np.save(folder / entry.input, calibrate.to_input(images.frames[i], image))
        np.save(folder / entry.output, logits[i : i + 1])
        golden.append(entry)
    return tuple(golden)


def _manifest(
    plan: Plan,
    network: Network,
    images: Images,
    proof: Proof,
    golden: tuple[Golden, ...],
    peak: float,
    folder: Path,
) -> Manifest:
    spec = export.model_spec(network, plan.precision, plan.target.scheme)
    calibrated = _calibrated_on(plan, network, images)
    limits = parity.lowered_limits(plan.precision, None, network.trained)
    return Manifest(
        schema=SCHEMA,
        name=network.name,
        target=plan.target.name,
        backend=plan.target.backend,
        precision=plan.precision,
        scheme=plan.target.scheme,
        model=proof.artifact.model.relative_to(folder).as_posix(),
        inputs=(spec.input,),
        outputs=(spec.output,),
        image=network.image,
        decoding="softmax",
        labels="labels.txt",
        session=plan.session,
        loop=plan.target.loop,
        golden=golden,
        golden_tolerance=parity.tolerance(limits, np.array([peak])),
        parity=proof.hops,
        accuracy=network.accuracy,
        provenance=Provenance(
            architecture=network.name,
            arguments=network.arguments,
            checkpoint_sha256=network.checkpoint_sha256,
            calibration_sha256=calibrated.sha256 if calibrated else "",
            calibration_images=len(calibrated.inputs) if calibrated else 0,
            parity_sha256=images.first(parity.IMAGES).sha256,
            tools=report.tool_versions(plan.target.backend),
        ),
        notes=_notes(network, proof),
    )


def _calibrated_on(plan: Plan, network: Network, images: Images) -> Images | None:
    if plan.precision == "int8":
        return None if trained.ranges_of(plan, network) else images
    return images.first(CORRECTED_ON) if plan.precision in WEIGHT_ONLY else None


def _notes(network: Network, proof: Proof) -> tuple[str, ...]:
    """What whoever reads the manifest has to know, and what the compiler says."""
    untrained = () if network.trained else (UNTRAINED,)
    stored = (STORED_FOLDED,) if network.stored_folded else ()
    return (*untrained, *stored, *proof.notes, *proof.artifact.notes)
