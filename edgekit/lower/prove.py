"""Lower a network hop by hop, each compared with the one before it (see `parity`)."""

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import torch
from torch.export import ExportedProgram

from edgekit import bundle
from edgekit.device.golden import run_image
from edgekit.device.session import open_session
from edgekit.errors import ParityError, StorageError
from edgekit.lower import export, parity, taps
from edgekit.lower.calibrate import Images
from edgekit.lower.canonical import canonical
from edgekit.lower.equalise import equalise
from edgekit.lower.integer import integer_forms
from edgekit.lower.network import CameraInput, Network
from edgekit.lower.plan import Plan
from edgekit.lower.quantise import quantise
from edgekit.manifest import Hop
from edgekit.spec import Artifact, ModelSpec, Session

FEW = 4
"""Images that the first diverging layer is looked for with."""

Say = Callable[[str], None]
"""Told what is being done, a line at a time."""


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch adds up in an order that depends on its threads; a bundle's bytes must not."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_one_thread()
def prove(
    plan: Plan, network: Network, images: Images, folder: Path, say: Say
) -> tuple[Artifact, list[Hop]]:
    """Lower the network into `folder`, each hop compared with the one before it."""
    spec = export.model_spec(network, plan.precision, plan.target.scheme)
    eager = export.with_camera_input(network)
    inputs = images.first(parity.IMAGES).inputs
    say("exporting")
    with _quiet():
        program = canonical(export.export(eager, export.example(network)), export.example(network))
    hop, logits = _exported(eager, program, inputs, network.trained)
    hops, quantised = [hop], None
    if plan.precision == "int8":
        say("quantising")
        with _quiet():
            program, quantised, logits = _quantised(
                plan, program, images, logits, inputs, network.trained
            )
        hops.append(quantised)
    say(f"compiling for {plan.target.backend}")
    artifact = _compile(plan, program, spec, folder)
    limits = parity.lowered_limits(plan.precision, quantised, network.trained)
    hops.append(_lowered(plan, program, spec, artifact, limits, logits, inputs))
    return artifact, hops


def _exported(
    eager: CameraInput, program: ExportedProgram, inputs: Sequence[np.ndarray], trained: bool
) -> tuple[Hop, np.ndarray]:
    """The hop, and the exported program's logits."""
    expected = parity.run_module(eager, inputs)
    found = parity.run_module(program.module(check_guards=False), inputs)
    allowed = parity.tolerance(parity.judged(parity.EXACT, trained), expected)
    few = inputs[:FEW]
    hop = parity.check_hop(
        "eager -> exported", expected, found, allowed,
        lambda: taps.first_divergence(
            taps.layer_snr(taps.eager_layers(eager, few), taps.weighted_layers(program, few)),
            allowed.snr_db,
        ),
    )  # fmt: skip
    return hop, found


def _quantised(
    plan: Plan,
    program: ExportedProgram,
    images: Images,
    expected: np.ndarray,
    inputs: Sequence[np.ndarray],
    trained: bool,
) -> tuple[ExportedProgram, Hop, np.ndarray]:
    """The quantised program, the hop to it, and its logits."""
    tensors = [torch.from_numpy(tensor) for tensor in images.inputs]
    level = equalise(program.module(check_guards=False), tensors[:32])
    integer_forms(level)
    evened = torch.export.export(level, (tensors[0],))
    result = quantise(evened.module(check_guards=False), tensors, plan.target.scheme)
    found = parity.run_module(result.module(check_guards=False), inputs)
    allowed = parity.tolerance(parity.judged(parity.QUANTISED, trained), expected)
    few = inputs[:FEW]
    hop = parity.check_hop(
        "exported -> quantised", expected, found, allowed,
        lambda: taps.first_divergence(
            taps.layer_snr(taps.graph_layers(evened, few), taps.graph_layers(result, few)),
            allowed.snr_db,
        ),
    )  # fmt: skip
    return result, hop, found


def _lowered(
    plan: Plan,
    program: ExportedProgram,
    spec: ModelSpec,
    artifact: Artifact,
    limits: tuple[float, float, float],
    expected: np.ndarray,
    inputs: Sequence[np.ndarray],
) -> Hop:
    allowed = parity.tolerance(limits, expected)
    with closing(plan.load(artifact.model, plan.session)) as session:
        _check_specs(session, spec)
        found = parity.run_session(session, inputs)
    few = inputs[:FEW]

    def lower(wide: ExportedProgram, folder: Path) -> Session:
        return plan.load(_compile(plan, wide, spec, folder).model, plan.session)

    def locate() -> taps.LayerSnr | None:
        values = taps.lowered_layers(program, torch.from_numpy(few[0]), lower, few)
        layers = taps.layer_snr(taps.graph_layers(program, few), values)
        return taps.first_divergence(layers, allowed.snr_db)

    name = "quantised -> lowered" if spec.precision == "int8" else "exported -> lowered"
    return parity.check_hop(name, expected, found, allowed, locate)


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


def read_back(folder: Path, frames: Sequence[np.ndarray], expected: np.ndarray) -> Hop:
    """The last hop: camera frames through the bundle's own contract, as a device would.

    Args:
        folder: the bundle, sealed.
        frames: (H, W, 3) uint8 RGB each.
        expected: (N, classes), the lowered model's logits by the network's own contract.
    """
    made = bundle.read(folder)
    with closing(open_session(made)) as session:
        name = session.outputs[0].name
        rows = [run_image(session, frame, made.manifest.image)[name] for frame in frames]
    allowed = parity.tolerance(parity.EXACT, expected)
    return parity.check_hop(
        "lowered -> bundle", expected, np.concatenate(rows), allowed, lambda: None
    )
