"""Lower a network hop by hop, each compared with the one before it (see `parity`)."""

import dataclasses
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.export import ExportedProgram

from edgekit import plugins
from edgekit.errors import ParityError, StorageError
from edgekit.lower import dynamic, edges, export, parity, reference, refusal, taps, tracing
from edgekit.lower.calibrate import Images
from edgekit.lower.canonical import canonical
from edgekit.lower.equalise import equalise
from edgekit.lower.exact import doubts
from edgekit.lower.integer import integer_forms
from edgekit.lower.network import CameraInput, Network, folded
from edgekit.lower.parity import Limits, Probe
from edgekit.lower.plan import Plan
from edgekit.lower.quantise import quantise
from edgekit.lower.sensitivity import Budget, keep_within
from edgekit.lower.taps import LayerSnr
from edgekit.manifest import Hop
from edgekit.spec import Artifact, ModelSpec, Session

SHOWN = 2
"""Images that the layers of a hop which holds are compared on, for the report."""

Say = Callable[[str], None]
"""Told what is being done, a line at a time."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What was lowered, and how it was proven."""

    artifact: Artifact
    hops: tuple[Hop, ...]
    layers: Mapping[str, Sequence[LayerSnr]]
    """Of each hop in torch, by its name: every layer, on a few images."""
    exported: ExportedProgram
    """The float program, in one spelling; whatever the precision."""
    notes: tuple[str, ...]
    """For people: of int8, what was kept in float, and where runtimes may round differently."""


@dataclass(frozen=True, slots=True)
class _Program:
    """What is handed to a compiler."""

    program: ExportedProgram
    notes: tuple[str, ...] = ()
    same: bool = False
    """Whether its integers are the same on every runtime."""


@dataclass(slots=True)
class _Gate:
    """What all hops are held by, and what they gave so far."""

    probe: Probe
    trained: bool
    hops: list[Hop] = field(default_factory=list)
    layers: dict[str, Sequence[LayerSnr]] = field(default_factory=dict)

    def hold(
        self,
        name: str,
        answers: tuple[np.ndarray, np.ndarray],
        limits: Limits,
        edge_limits: Limits,
        layers: parity.LayersOn,
    ) -> Hop:
        """See `parity.hold`; `answers` are those before and after the hop."""
        limits = parity.judged(limits, self.trained)
        hop = parity.hold(name, self.probe, *answers, limits, edge_limits, layers)
        self.hops.append(hop)
        return hop

    def show(self, name: str, layers: parity.LayersOn) -> None:
        """Keep the layers of a hop that holds."""
        self.layers[name] = layers(self.probe.real[:SHOWN])


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
    plan: Plan,
    network: Network,
    images: Images,
    folder: Path,
    say: Say,
    budget: Budget | None = None,
) -> Proof:
    """Lower the network into `folder`, each hop compared with the one before it.

    Args:
        plan: every choice made.
        network: what to lower.
        images: to calibrate on, and to hold the hops to.
        folder: where the compiler writes.
        say: told what is being done, a line at a time.
        budget: what int8 may cost; None: no layer is kept in float for it.

    Raises:
        CheckFailed: the budget cannot be kept.
        HopError: the first hop that was breached.
        SpecError: what the network does cannot be traced; names the line.
    """
    odd = dict(zip(edges.frames(), edges.images(network.image).inputs, strict=True))
    gate = _Gate(Probe(images.first(parity.IMAGES).inputs, odd), network.trained)
    spec = export.model_spec(network, plan.precision, plan.target.scheme)
    tracing.check_repeatable(
        network.module, [reference.planes(x, network.image) for x in gate.probe.real[:2]]
    )
    say("folding batch norm")
    module, logits = _folded(gate, network)
    say("exporting")
    exported, logits = _exported(gate, module, export.example(network), logits)
    program = _Program(exported)
    if plan.precision == "int8":
        say("quantising")
        evened = _evened(exported, images)
        program = _int8(plan, evened, images, budget, say)
        logits = _quantised(gate, evened, program.program, logits)
    say(f"compiling for {plan.target.backend}")
    ready = dynamic.free_batch(program.program) if plan.dynamic else program.program
    artifact = _compile(plan, ready, spec, folder)
    _lowered(gate, plan, program, spec, artifact, logits)
    return Proof(artifact, tuple(gate.hops), gate.layers, exported, program.notes)


def _folded(gate: _Gate, network: Network) -> tuple[CameraInput, np.ndarray]:
    """The form that runs on a device, taking camera pixels, and its logits."""
    eager = reference.EagerInput(network.module, network.image)
    module = export.with_camera_input(folded(network))
    expected = parity.run_module(eager, gate.probe.inputs)
    found = parity.run_module(module, gate.probe.inputs)

    def layers(inputs: Sequence[np.ndarray]) -> Sequence[LayerSnr]:
        before = taps.unfolded_layers(eager, inputs)
        return taps.layer_snr(before, taps.eager_layers(module, inputs))

    gate.hold("eager -> folded", (expected, found), parity.EXACT, parity.EDGES_EXACT, layers)
    gate.show("eager -> folded", layers)
    return module, found


def _exported(
    gate: _Gate, module: CameraInput, pixels: torch.Tensor, expected: np.ndarray
) -> tuple[ExportedProgram, np.ndarray]:
    """The exported program, and its logits."""
    with _quiet():
        program = canonical(export.export(module, pixels), pixels)
    found = parity.run_module(program.module(check_guards=False), gate.probe.inputs)

    def layers(inputs: Sequence[np.ndarray]) -> Sequence[LayerSnr]:
        before = taps.eager_layers(module, inputs)
        return taps.layer_snr(before, taps.weighted_layers(program, inputs))

    gate.hold("folded -> exported", (expected, found), parity.EXACT, parity.EDGES_EXACT, layers)
    gate.show("folded -> exported", layers)
    return program, found


def _evened(program: ExportedProgram, images: Images) -> ExportedProgram:
    """The same in float, its channels evened out, in forms that integers have."""
    few = [torch.from_numpy(tensor) for tensor in images.inputs[:32]]
    with _quiet():
        level = equalise(program.module(check_guards=False), few)
        integer_forms(level)
        return torch.export.export(level, (few[0],))


def _int8(
    plan: Plan, program: ExportedProgram, images: Images, budget: Budget | None, say: Say
) -> _Program:
    """The quantised program."""
    tensors = [torch.from_numpy(tensor) for tensor in images.inputs]

    def quantised(kept: tuple[str, ...]) -> ExportedProgram:
        wanted = dataclasses.replace(plan.ptq, keep_float=(*plan.ptq.keep_float, *kept))
        with _quiet():
            return quantise(program.module(check_guards=False), tensors, plan.target.scheme, wanted)

    if budget is None:
        result, kept = quantised(()), plan.ptq.keep_float
    else:
        result, kept = keep_within(budget, program, quantised, tensors, say)
        kept = (*plan.ptq.keep_float, *kept)
    notes = [f"kept in float: {', '.join(kept)}"] if kept else []
    found = doubts(result.graph)
    same = "the same integers on every runtime: no product is near where rounding could differ"
    notes.append(f"runtimes may differ in last places: {'; '.join(found)}" if found else same)
    return _Program(result, tuple(notes), same=not found)


def _quantised(
    gate: _Gate, before: ExportedProgram, after: ExportedProgram, expected: np.ndarray
) -> np.ndarray:
    """The hop to int8; gives the quantised program's logits."""
    found = parity.run_module(after.module(check_guards=False), gate.probe.inputs)

    def layers(inputs: Sequence[np.ndarray]) -> Sequence[LayerSnr]:
        return taps.layer_snr(taps.graph_layers(before, inputs), taps.graph_layers(after, inputs))

    name, answers = "exported -> quantised", (expected, found)
    gate.hold(name, answers, parity.QUANTISED, parity.EDGES_QUANTISED, layers)
    gate.show(name, layers)
    return found


def _lowered(
    gate: _Gate,
    plan: Plan,
    lowered: _Program,
    spec: ModelSpec,
    artifact: Artifact,
    expected: np.ndarray,
) -> None:
    """Hold the runtime, on the model file, to what torch gives for the program."""
    program = lowered.program
    with refusal.says_why(plan, program):
        loaded = plan.load(artifact.model, plan.session)
    with closing(loaded) as session:
        _check_specs(session, spec)
        found = parity.run_session(session, gate.probe.inputs)
        if plan.dynamic:
            run = plugins.batch_runner(plan.target.backend)
            real, precision = gate.probe.real, plan.precision
            together = dynamic.hold_batch(run, session, artifact.model, real, precision)

    def lower(wide: ExportedProgram, folder: Path) -> Session:
        return plan.load(_compile(plan, wide, spec, folder).model, plan.session)

    def layers(inputs: Sequence[np.ndarray]) -> Sequence[LayerSnr]:
        after = taps.lowered_layers(program, torch.from_numpy(inputs[0]), lower, inputs)
        return taps.layer_snr(taps.graph_layers(program, inputs), after)

    int8 = plan.precision == "int8"
    quantised = gate.hops[-1] if int8 else None
    limits = parity.lowered_limits(plan.precision, quantised, same=lowered.same)
    edge_limits = parity.lowered_edges(plan.precision, quantised, lowered.same)
    before = "quantised" if int8 else "exported"
    gate.hold(f"{before} -> lowered", (expected, found), limits, edge_limits, layers)
    if plan.dynamic:
        gate.hops.append(together)


def _check_specs(session: Session, spec: ModelSpec) -> None:
    if session.inputs != (spec.input,) or session.outputs != (spec.output,):
        raise ParityError(
            f"the lowered model has inputs {session.inputs} and outputs {session.outputs}; "
            f"asked for were {spec.input} and {spec.output}; no bundle was written"
        )


def _compile(plan: Plan, program: ExportedProgram, spec: ModelSpec, folder: Path) -> Artifact:
    try:
        with _quiet(), refusal.says_why(plan, program):
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
