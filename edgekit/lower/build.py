"""From a network to a bundle: the order of the steps, and nothing else.

load -> export -> quantise -> compile -> gate -> golden frames -> seal
"""

import dataclasses
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.export import ExportedProgram

from edgekit import bundle, plugins
from edgekit.bundle import Bundle
from edgekit.device.golden import run_image
from edgekit.device.session import open_session
from edgekit.errors import InputError, ParityError, StorageError, UnknownName
from edgekit.lower import calibrate, export, parity, report, taps
from edgekit.lower.calibrate import Images
from edgekit.lower.cost import cost
from edgekit.lower.equalise import equalise
from edgekit.lower.network import CameraInput, Network, load_network
from edgekit.lower.quantise import quantise
from edgekit.manifest import (
    SCHEMA,
    Golden,
    Hop,
    Manifest,
    Provenance,
)
from edgekit.spec import (
    PRECISIONS,
    Artifact,
    Compile,
    ImageSpec,
    Load,
    ModelSpec,
    Precision,
    Session,
    SessionOptions,
    Target,
)

GOLDEN = 4
"""Frames that travel in the bundle."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for; None leaves it to the target or the checkpoint."""

    target: str
    model: str | None = None
    weights: str | None = None
    labels: Path | None = None
    image: ImageSpec | None = None
    backend: str | None = None
    precision: str | None = None
    calibration: Path | None = None
    out: Path | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A request with every choice made and both halves of the backend found."""

    target: Target
    precision: Precision
    compile: Compile
    load: Load
    options: dict[str, str | int | float | bool]
    session: SessionOptions


def build(request: Request, say: Say) -> Bundle:
    """Build one bundle and read it back.

    Args:
        request: what to build.
        say: told what is being done, a line at a time.

    Raises:
        ParityError: a hop was breached; nothing is left behind.
        InputError, MissingPackage: what was given cannot be used.
    """
    started = time.perf_counter()
    plan = make_plan(request)
    network = load_network(request.model, request.weights, request.labels, request.image)
    out = request.out or Path(f"{network.name}-{plan.target.name}-{plan.precision}")
    with bundle.writing(out, request.force) as folder:
        images = read_images(request.calibration, network.image)
        if plan.precision == "int8":
            calibrate.check_for_quantising(images)
        say(f"{network.name}: {len(images.inputs)} images from {images.source}")
        artifact, hops = prove(plan, network, images, folder, say)
        _finish(plan, network, images, artifact, hops, folder, started)
    say(f"reading {out} back")
    found = bundle.read(out)
    return found


def make_plan(request: Request) -> Plan:
    """Find the target, its backend and precision; an unknown name suggests the nearest."""
    target = plugins.target(request.target)
    precision = request.precision or target.precision
    if precision not in PRECISIONS:
        raise UnknownName("precision", precision, PRECISIONS)
    options, session = dict(target.options or {}), target.session
    if request.backend is not None and request.backend != target.backend:
        options, session = {}, SessionOptions(threads=session.threads)
    session = (
        dataclasses.replace(session, fp16=precision != "fp32", int8=precision == "int8")
        if "TensorrtExecutionProvider" in session.providers
        else session
    )
    name = request.backend or target.backend
    return Plan(
        target=dataclasses.replace(target, backend=name),
        precision=precision,
        compile=plugins.compiler(name),
        load=plugins.loader(name),
        options=options,
        session=session,
    )


def read_images(folder: Path | None, image: ImageSpec) -> Images:
    """The user's images, or the sample photographs."""
    if folder is None:
        return calibrate.from_photographs(image)
    if not folder.is_dir():
        raise InputError(f"--calibration {folder} is not a folder of images")
    return calibrate.from_folder(folder, image)


def prove(
    plan: Plan, network: Network, images: Images, folder: Path, say: Say
) -> tuple[Artifact, list[Hop]]:
    """Lower the network into `folder`, each hop compared with the one before it."""
    spec = export.model_spec(network, plan.precision, plan.target.scheme)
    eager = export.with_camera_input(network)
    inputs = images.first(parity.IMAGES).inputs
    say("exporting")
    with _quiet():
        program = export.export(eager, export.example(network))
    expected = parity.run_module(eager, inputs)
    hops = [_exported(eager, program, expected, inputs)]
    before = "exported"
    if plan.precision == "int8":
        say("quantising")
        with _quiet():
            program, hop = _quantised(plan, program, images, inputs)
        hops.append(hop)
        before = "quantised"
    if plan.precision == "int8":
        expected = parity.run_module(program.module(check_guards=False), inputs)
    say(f"compiling for {plan.target.backend}")
    artifact = _compile(plan, program, spec, folder)
    hops.append(_lowered(plan, program, spec, artifact, before, expected, inputs))
    return artifact, hops


def _exported(
    eager: CameraInput,
    program: ExportedProgram,
    expected: np.ndarray,
    inputs: tuple[np.ndarray, ...],
) -> Hop:
    found = parity.run_module(program.module(check_guards=False), inputs)
    allowed = parity.tolerance(parity.EXACT, expected)
    few = inputs[:4]
    return parity.check_hop(
        "eager -> exported", expected, found, allowed,
        lambda: taps.first_divergence(
            taps.eager_layers(eager, few), taps.weighted_layers(program, few), allowed.snr_db
        ),
    )  # fmt: skip


def _quantised(
    plan: Plan, program: ExportedProgram, images: Images, inputs: tuple[np.ndarray, ...]
) -> tuple[ExportedProgram, Hop]:
    tensors = [torch.from_numpy(tensor) for tensor in images.inputs]
    level = equalise(program.module(check_guards=False), tensors[:32])
    evened = torch.export.export(level, (tensors[0],))
    result = quantise(evened.module(check_guards=False), tensors, plan.target.scheme)
    expected = parity.run_module(program.module(check_guards=False), inputs)
    found = parity.run_module(result.module(check_guards=False), inputs)
    allowed = parity.tolerance(parity.QUANTISED, expected)
    few = inputs[:4]
    hop = parity.check_hop(
        "exported -> quantised", expected, found, allowed,
        lambda: taps.first_divergence(
            taps.graph_layers(evened, few), taps.graph_layers(result, few), allowed.snr_db
        ),
    )  # fmt: skip
    return result, hop


def _lowered(
    plan: Plan,
    program: ExportedProgram,
    spec: ModelSpec,
    artifact: Artifact,
    before: str,
    expected: np.ndarray,
    inputs: tuple[np.ndarray, ...],
) -> Hop:
    allowed = parity.tolerance(parity.LOWERED[plan.precision], expected)
    with closing(plan.load(artifact.model, plan.session)) as session:
        _check_specs(session, spec)
        found = parity.run_session(session, inputs)
    few = inputs[:4]

    def lower(wide: ExportedProgram, folder: Path) -> Session:
        return plan.load(_compile(plan, wide, spec, folder).model, plan.session)

    def locate() -> taps.Divergence | None:
        values = taps.lowered_layers(program, torch.from_numpy(few[0]), lower, few)
        return taps.first_divergence(taps.graph_layers(program, few), values, allowed.snr_db)

    return parity.check_hop(f"{before} -> lowered", expected, found, allowed, locate)


def _check_specs(session: Session, spec: ModelSpec) -> None:
    if session.inputs != (spec.input,) or session.outputs != (spec.output,):
        raise ParityError(
            f"the lowered model has inputs {session.inputs} and outputs {session.outputs}; "
            f"asked for were {spec.input} and {spec.output}; no bundle was written"
        )


def _compile(plan: Plan, program: ExportedProgram, spec: ModelSpec, folder: Path) -> Artifact:
    try:
        with _quiet():
            return plan.compile(program, spec, plan.options, folder)
    except OSError as cause:
        raise StorageError.from_os(cause, folder) from cause


@contextmanager
def _quiet() -> Iterator[None]:
    """Toolkits warn and print progress, from Python and from C++: keep both streams clear."""
    saved = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as log, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            yield
        finally:
            for stream, descriptor in zip((1, 2), saved, strict=True):
                os.dup2(descriptor, stream)
                os.close(descriptor)


def _finish(
    plan: Plan,
    network: Network,
    images: Images,
    artifact: Artifact,
    hops: list[Hop],
    folder: Path,
    started: float,
) -> None:
    """Golden frames, labels, README, manifest; and the last hop, on the files as written."""
    try:
        bundle.write_labels(folder / "labels.txt", network.labels)
        with closing(plan.load(artifact.model, plan.session)) as session:
            golden, peak = _write_golden(session, network, images, folder)
            sample = images.inputs[0]
            elapsed = time.perf_counter() - started
            (folder / "report.json").write_text(report.machine_report(session, sample, elapsed))
        manifest = _manifest(plan, network, images, artifact, hops, golden, peak, folder)
        bundle.seal(folder, manifest)
        hop = _read_back(folder, plan, artifact, images)
        manifest = dataclasses.replace(manifest, parity=(*manifest.parity, hop))
        size = artifact.model.stat().st_size
        card = report.readme(manifest, cost(network.module, network.image), size)
        (folder / "README.md").write_text(card)
        bundle.seal(folder, manifest)  # anew: now the last hop and the card are in it
    except OSError as cause:
        raise StorageError.from_os(cause, folder) from cause


def _read_back(folder: Path, plan: Plan, artifact: Artifact, images: Images) -> Hop:
    """The last hop: camera frames through the bundle's own contract, as a device would."""
    few = images.first(parity.IMAGES)
    with closing(plan.load(artifact.model, plan.session)) as session:
        expected = parity.run_session(session, few.inputs)
    made = bundle.read(folder)
    with closing(open_session(made)) as session:
        name = session.outputs[0].name
        rows = [run_image(session, frame, made.manifest.image)[name] for frame in few.frames]
    allowed = parity.tolerance(parity.EXACT, expected)
    return parity.check_hop(
        "lowered -> bundle", expected, np.concatenate(rows), allowed, lambda: None
    )


def _write_golden(
    session: Session, network: Network, images: Images, folder: Path
) -> tuple[tuple[Golden, ...], float]:
    """The frames that the model is surest of, so that another CPU's rounding keeps the answer."""
    import cv2

    few = images.first(parity.IMAGES)
    name = session.outputs[0].name
    logits = [run_image(session, frame, network.image)[name] for frame in few.frames]
    margins = [float(np.diff(np.sort(row[0])[-2:])[0]) if row.size > 1 else 0.0 for row in logits]
    surest = sorted(np.argsort(margins)[::-1][:GOLDEN].tolist())
    (folder / "golden").mkdir()
    golden = []
    for n, i in enumerate(surest):
        entry = Golden(f"golden/{n}.png", f"golden/{n}_input.npy", f"golden/{n}_output.npy")
        encoded, data = cv2.imencode(".png", few.frames[i][:, :, ::-1])
        assert encoded
        (folder / entry.frame).write_bytes(data.tobytes())
        np.save(folder / entry.input, few.inputs[i])
        np.save(folder / entry.output, logits[i])
        golden.append(entry)
    return tuple(golden), float(max(np.abs(row).max() for row in logits))


def _manifest(
    plan: Plan,
    network: Network,
    images: Images,
    artifact: Artifact,
    hops: list[Hop],
    golden: tuple[Golden, ...],
    peak: float,
    folder: Path,
) -> Manifest:
    spec = export.model_spec(network, plan.precision, plan.target.scheme)
    calibrated = plan.precision == "int8"
    limits = parity.LOWERED[plan.precision]
    return Manifest(
        schema=SCHEMA,
        name=network.name,
        target=plan.target.name,
        backend=plan.target.backend,
        precision=plan.precision,
        scheme=plan.target.scheme,
        model=artifact.model.relative_to(folder).as_posix(),
        inputs=(spec.input,),
        outputs=(spec.output,),
        image=network.image,
        decoding="softmax",
        labels="labels.txt",
        session=plan.session,
        golden=golden,
        golden_tolerance=parity.tolerance(limits, np.array([peak])),
        parity=tuple(hops),
        accuracy=network.accuracy,
        provenance=Provenance(
            architecture=network.name,
            arguments=network.arguments,
            checkpoint_sha256=network.checkpoint_sha256,
            calibration_sha256=images.sha256 if calibrated else "",
            calibration_images=len(images.inputs) if calibrated else 0,
            parity_sha256=images.first(parity.IMAGES).sha256,
            tools=report.tool_versions(plan.target.backend),
        ),
        notes=artifact.notes,
    )
