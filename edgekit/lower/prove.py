"""Lower a program to a runtime, and hold the runtime to it (see `parity`)."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.export import ExportedProgram

from edgekit import plugins
from edgekit.errors import ParityError, StorageError
from edgekit.lower import dynamic, refusal
from edgekit.lower.calibrate import Images
from edgekit.lower.gate import parity, taps
from edgekit.lower.gate.hold import Gate, one_thread, quiet
from edgekit.lower.gate.taps import LayerSnr
from edgekit.lower.int8.sensitivity import Budget
from edgekit.lower.network import Network
from edgekit.lower.plan import Plan
from edgekit.lower.prepare import Prepared, Say, prepare
from edgekit.manifest import Hop
from edgekit.spec import Artifact, ModelSpec, Session


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


def prove(
    plan: Plan,
    network: Network,
    images: Images,
    folder: Path,
    say: Say,
    budget: Budget | None = None,
) -> Proof:
    """Lower a network into `folder`, each hop compared with the one before it.

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
    return lower(prepare(plan, network, images, say, budget), plan, folder, say)


@one_thread()
def lower(prepared: Prepared, plan: Plan, folder: Path, say: Say) -> Proof:
    """Lower a prepared program into `folder`; it may be lowered again, by another backend.

    Raises:
        HopError: the runtime does not answer as the program does.
        SpecError: the backend cannot take the program; names the operator and the line.
    """
    gate = prepared.gate.fork()
    say(f"compiling for {plan.target.backend}")
    ready = dynamic.free_batch(prepared.program) if plan.dynamic else prepared.program
    artifact = _compile(plan, ready, prepared.spec, folder)
    _lowered(gate, plan, prepared, artifact)
    return Proof(artifact, tuple(gate.hops), gate.layers, prepared.exported, prepared.notes)


def _lowered(gate: Gate, plan: Plan, prepared: Prepared, artifact: Artifact) -> None:
    """Hold the runtime, on the model file, to what torch gives for the program."""
    program, spec = prepared.program, prepared.spec
    with refusal.says_why(plan, program):
        loaded = plan.load(artifact.model, plan.session)
    with closing(loaded) as session:
        _check_specs(session, spec)
        with refusal.says_why(plan, program):
            found = parity.run_session(session, gate.probe.inputs)
        if plan.dynamic:
            run = plugins.batch_runner(plan.target.backend)
            real, precision = gate.probe.real, plan.precision
            together = dynamic.hold_batch(run, session, artifact.model, real, precision)

    def open_tapped(wide: ExportedProgram, folder: Path) -> Session:
        return plan.load(_compile(plan, wide, spec, folder).model, plan.session)

    def layers(inputs: Sequence[np.ndarray]) -> Sequence[LayerSnr]:
        after = taps.lowered_layers(program, torch.from_numpy(inputs[0]), open_tapped, inputs)
        return taps.layer_snr(taps.graph_layers(program, inputs), after)

    int8 = plan.precision == "int8"
    quantised = gate.hops[-1] if int8 else None
    limits = parity.lowered_limits(plan.precision, quantised, same=prepared.same)
    edge_limits = parity.lowered_edges(plan.precision, quantised, prepared.same)
    before = "exported" if plan.precision in ("fp32", "fp16") else "quantised"
    gate.hold(f"{before} -> lowered", (prepared.logits, found), limits, edge_limits, layers)
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
        with quiet(), refusal.says_why(plan, program):
            return plan.compile(program, spec, plan.options, folder)
    except OSError as cause:
        raise StorageError.from_os(cause, folder) from cause
