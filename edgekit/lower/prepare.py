"""From a network to the program that compilers take, each hop compared with the one before it.

eager -> folded -> exported -> quantised; done once, whatever runtimes it is then lowered to.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.export import ExportedProgram

from edgekit.lower import export, trained
from edgekit.lower.calibrate import Images
from edgekit.lower.forms.canonical import canonical
from edgekit.lower.forms.integer import in_integer_forms, integer_forms
from edgekit.lower.gate import edges, parity, reference, taps, tracing
from edgekit.lower.gate.hold import Gate, one_thread, quiet
from edgekit.lower.gate.parity import Probe
from edgekit.lower.gate.taps import LayerSnr
from edgekit.lower.int8.bias import CORRECTED_ON
from edgekit.lower.int8.equalise import equalise
from edgekit.lower.int8.exact import doubts
from edgekit.lower.int8.quantise import Ptq, quantise
from edgekit.lower.int8.sensitivity import Budget, keep_within
from edgekit.lower.int8.weight_only import quantise_weights
from edgekit.lower.network import CameraInput, Network, folded
from edgekit.lower.plan import Plan
from edgekit.spec import WEIGHT_ONLY, ModelSpec, Precision

Say = Callable[[str], None]
"""Told what is being done, a line at a time."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is handed to compilers, with its proof so far."""

    program: ExportedProgram
    """Float, int8, or of integer weights."""
    exported: ExportedProgram
    """The float program, in one spelling; whatever the precision."""
    spec: ModelSpec
    gate: Gate
    logits: np.ndarray
    """(N, classes), of the program on the gate's inputs."""
    notes: tuple[str, ...] = ()
    """For people: of int8, what was kept in float, and where runtimes may round differently; of
    integer weights, how many layers have which."""
    same: bool = False
    """Whether its integers are the same on every runtime."""


@one_thread()
def prepare(
    plan: Plan, network: Network, images: Images, say: Say, budget: Budget | None = None
) -> Prepared:
    """Fold, export and, for integers, quantise.

    Args:
        plan: every choice made; of its backend nothing is used.
        network: what to lower.
        images: to calibrate on, and to hold the hops to.
        say: told what is being done, a line at a time.
        budget: what int8 may cost; None: no layer is kept in float for it.

    Raises:
        CheckFailed: the budget cannot be kept.
        HopError: the first hop that was breached.
        SpecError: what the network does cannot be traced; names the line.
    """
    ranges = trained.ranges_of(plan, network)
    odd = dict(zip(edges.frames(), edges.images(network.image).inputs, strict=True))
    gate = Gate(Probe(images.first(parity.IMAGES).inputs, odd), network.trained)
    spec = export.model_spec(network, plan.precision, plan.target.scheme)
    tracing.check_repeatable(
        network.module, [reference.planes(x, network.image) for x in gate.probe.real[:2]]
    )
    say("folding batch norm")
    module, logits = _folded(gate, network)
    say("exporting")
    exported, logits = _exported(gate, module, export.example(network), logits)
    if plan.precision in ("fp32", "fp16"):
        return Prepared(exported, exported, spec, gate, logits)
    say("quantising")
    if plan.precision in WEIGHT_ONLY:
        tensors = [torch.from_numpy(tensor) for tensor in images.first(CORRECTED_ON).inputs]
        with quiet():
            stored = quantise_weights(exported, tensors, plan.precision)
        logits = _quantised(gate, exported, stored.program, logits, plan.precision)
        return Prepared(stored.program, exported, spec, gate, logits, stored.notes)
    evened = _integer_forms(exported, images) if ranges else _evened(exported, images)
    program, kept = _int8(plan, evened, images, budget, say, network if ranges else None)
    logits = _quantised(gate, evened, program, logits, plan.precision)
    found = doubts(program.graph)
    origin = trained.notes_of(plan, network)
    for note in origin:
        say(note)
    notes = (*origin, *_notes(kept, found))
    return Prepared(program, exported, spec, gate, logits, notes, same=not found)


def _folded(gate: Gate, network: Network) -> tuple[CameraInput, np.ndarray]:
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
    gate: Gate, module: CameraInput, pixels: torch.Tensor, expected: np.ndarray
) -> tuple[ExportedProgram, np.ndarray]:
    """The exported program, and its logits."""
    with quiet():
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
    with quiet():
        level = equalise(program.module(check_guards=False), few)
        integer_forms(level)
        return torch.export.export(level, (few[0],))


def _integer_forms(program: ExportedProgram, images: Images) -> ExportedProgram:
    """The same of a network that was evened out before it was trained for int8."""
    with quiet():
        return in_integer_forms(program, torch.from_numpy(images.inputs[0]))


def _int8(
    plan: Plan,
    program: ExportedProgram,
    images: Images,
    budget: Budget | None,
    say: Say,
    network: Network | None,
) -> tuple[ExportedProgram, tuple[str, ...]]:
    """The quantised program, and the layers that it keeps in float.

    `network` is given where its ranges are those of training.
    """
    tensors = [torch.from_numpy(tensor) for tensor in images.inputs]
    if network is not None:
        module, kept = program.module(check_guards=False), network.keep_float
        with quiet():
            wanted = Ptq(keep_float=kept)
            return quantise(module, tensors, plan.target.scheme, wanted, network.ranges), kept

    def quantised(kept: tuple[str, ...]) -> ExportedProgram:
        wanted = dataclasses.replace(plan.ptq, keep_float=(*plan.ptq.keep_float, *kept))
        with quiet():
            return quantise(program.module(check_guards=False), tensors, plan.target.scheme, wanted)

    if budget is None:
        return quantised(()), plan.ptq.keep_float
    result, kept = keep_within(budget, program, quantised, tensors, say)
    return result, (*plan.ptq.keep_float, *kept)


def _notes(kept: Sequence[str], found: Sequence[str]) -> tuple[str, ...]:
    same = "the same integers on every runtime: no product is near where rounding could differ"
    notes = [f"kept in float: {', '.join(kept)}"] if kept else []
    return (*notes, f"runtimes may differ in last places: {'; '.join(found)}" if found else same)


def _quantised(
    gate: Gate,
    before: ExportedProgram,
    after: ExportedProgram,
    expected: np.ndarray,
    precision: Precision,
) -> np.ndarray:
    """The hop to integers; gives the quantised program's logits."""
    found = parity.run_module(after.module(check_guards=False), gate.probe.inputs)

    def layers(inputs: Sequence[np.ndarray]) -> Sequence[LayerSnr]:
        return taps.layer_snr(taps.graph_layers(before, inputs), taps.graph_layers(after, inputs))

    name, answers = "exported -> quantised", (expected, found)
    int8 = (parity.QUANTISED, parity.EDGES_QUANTISED)
    gate.hold(name, answers, *parity.WEIGHTS.get(precision, int8), layers)
    gate.show(name, layers)
    return found
