"""How long a candidate takes on a target: lowered as a build does, and timed beside another.

The parity gate is left out: a network that has just lost channels answers badly until it is trained
on, and how long it takes does not depend on that.
"""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from edgekit.device.measure.bench import in_turns
from edgekit.errors import SpecError
from edgekit.lower import export, refusal
from edgekit.lower.calibrate import Images
from edgekit.lower.forms.canonical import canonical
from edgekit.lower.forms.integer import integer_forms
from edgekit.lower.gate.hold import one_thread, quiet
from edgekit.lower.int8.quantise import quantise
from edgekit.lower.network import Network, folded
from edgekit.lower.plan import Plan, Request, make_plan
from edgekit.spec import ImageSpec, Session

CALIBRATED_ON = 8
"""Images: int8's ranges do not change how long a layer takes."""
RUNS = 100
WARMUP = 20


def plan_for(target: str, precision: str) -> Plan:
    """What a build for this target would do.

    Raises:
        UnknownName: no such target.
        SpecError: a precision whose latency cannot be measured by this short way.
        MissingPackage: its toolkit or its runtime is not installed.
    """
    plan = make_plan(Request(target=target, precision=precision))
    if precision not in ("fp32", "fp16", "int8"):
        raise SpecError(f"latency is measured in fp32, fp16 or int8, not in {precision}")
    return plan


@one_thread()
def lower(
    module: nn.Module, image: ImageSpec, classes: int, plan: Plan, images: Images, folder: Path
) -> Session:
    """Lower a network into `folder` and open it; the caller closes it.

    Args:
        module: (N, 3, H, W) normalised -> (N, classes); copied.
        image: the contract.
        classes: of its answers.
        plan: every choice made.
        images: int8's ranges are found on the first of them.
        folder: replaced.

    Raises:
        SpecError: the backend cannot take the network.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    labels = tuple(str(n) for n in range(classes))
    network = Network("candidate", module, image, labels, {}, checkpoint_sha256="", trained=False)
    spec = export.model_spec(network, plan.precision, plan.target.scheme)
    with quiet():
        pixels = export.example(network)
        program = export.export(export.with_camera_input(folded(network)), pixels)
        program = canonical(program, pixels)
        if plan.precision == "int8":
            program = _int8(program, plan, images)
        with refusal.says_why(plan, program):
            artifact = plan.compile(program, spec, plan.options, folder)
            return plan.load(artifact.model, plan.session)


def _int8(program: ExportedProgram, plan: Plan, images: Images) -> ExportedProgram:
    few = [torch.from_numpy(tensor) for tensor in images.inputs[:CALIBRATED_ON]]
    float_form = program.module(check_guards=False)
    integer_forms(float_form)
    program = torch.export.export(float_form, (few[0],))
    return quantise(program.module(check_guards=False), few, plan.target.scheme, plan.ptq)


def time_beside(sessions: Sequence[Session], pixels: np.ndarray, runs: int = RUNS) -> list[float]:
    """Median ms of each session, measured in turns, as `edgekit bench` does.

    Args:
        sessions: open; they see the same noise of the machine.
        pixels: (1, H, W, 3) uint8, written into the input in every run.
        runs: timed ones of each.
    """

    def fill(inputs: Mapping[str, np.ndarray]) -> None:
        (view,) = inputs.values()
        np.copyto(view, pixels)

    def timed(session: Session, count: int, warmup: int) -> list[float]:
        for _ in range(warmup):
            session.run(fill)
        times = []
        for _ in range(count):
            start = perf_counter()
            session.run(fill)
            times.append(1000 * (perf_counter() - start))
        return times

    times = in_turns([partial(timed, session) for session in sessions], runs, WARMUP)
    return [float(np.median(each)) for each in times]


def compare(
    modules: Sequence[nn.Module],
    image: ImageSpec,
    classes: int,
    plan: Plan,
    images: Images,
    folder: Path,
) -> list[float]:
    """Lower networks and time them beside each other: median ms of each, in their order."""
    with ExitStack() as stack:
        sessions = [
            stack.enter_context(
                closing(lower(module, image, classes, plan, images, folder / str(number)))
            )
            for number, module in enumerate(modules)
        ]
        return time_beside(sessions, images.inputs[0])
