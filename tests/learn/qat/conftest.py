"""Small networks that are trained for int8, and the program that the build makes of them."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn import functional as F

from edgekit.learn.qat.graph import Learner
from edgekit.learn.qat.ranges import Schedule
from edgekit.learn.qat.start import Start
from edgekit.learn.qat.step import finished, prepared
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.recipe.steps import QuantizeStep
from edgekit.learn.train.step import normalise
from edgekit.learn.work import Student
from edgekit.lower import export, untrained
from edgekit.lower.calibrate import from_photographs
from edgekit.lower.forms.canonical import canonical
from edgekit.lower.forms.integer import in_integer_forms
from edgekit.lower.gate.hold import quiet
from edgekit.lower.int8.quantise import Ptq, quantise
from edgekit.lower.load import build_network
from edgekit.lower.network import Network, fold_batch_norm
from edgekit.spec import ImageSpec

IMAGE = ImageSpec(32, 32)
CLASSES = 5
TINY: dict[str, dict[str, int | float | bool]] = {
    "mobilenet_v2": {"width_mult": 0.1},
    "mobilenet_v3_small": {"width_mult": 0.25},
    "shufflenet_v2_x0_5": {},
    "cifar_resnet20": {},
}


@dataclass(frozen=True, slots=True)
class Case:
    """A network before and after some steps of training for int8."""

    original: nn.Module
    step: QuantizeStep
    begun: Start
    learns: Learner
    student: Student
    images: list[Tensor]
    """(1, H, W, 3) uint8."""

    @property
    def planes(self) -> Tensor:
        """(N, 3, H, W) normalised."""
        return normalise(torch.cat(self.images), IMAGE)

    @property
    def network(self) -> Network:
        labels = tuple("abcde")
        return Network(
            "tiny", self.student.module, IMAGE, labels, {}, "",
            ranges=self.student.ranges, keep_float=self.student.keep_float,
        )  # fmt: skip


@pytest.fixture(scope="session")
def photographs() -> list[Tensor]:
    return [torch.from_numpy(pixels) for pixels in from_photographs(IMAGE, 16).inputs]


@pytest.fixture(scope="session")
def original() -> Callable[[str], nn.Module]:
    """A tiny network of an architecture: random weights, batch norm's statistics settled."""

    def make(name: str) -> nn.Module:
        torch.manual_seed(0)
        module = build_network(name, {"num_classes": CLASSES, **TINY[name]})
        return untrained.settle(module, IMAGE)

    return make


@pytest.fixture(scope="session")
def trained(original: Callable[[str], nn.Module], photographs: list[Tensor]) -> Callable[..., Case]:
    """Trains a network for int8 on sixteen photographs, the schedule's every phase in turn."""

    def make(
        name: str,
        scheme: str = "affine",
        folded: bool = False,
        keep: tuple[str, ...] = (),
        module: nn.Module | None = None,
        steps: int = 6,
    ) -> Case:
        module = module or original(name)
        module = fold_batch_norm(module) if folded else module
        step = QuantizeStep(
            "quantize", "quantize", Fit(0.01, epochs=steps), scheme=scheme, keep_float=keep  # type: ignore[arg-type]
        )  # fmt: skip
        begun, learns = prepared(module, photographs, step, IMAGE)
        run(learns, step, photographs, steps)
        student = finished(begun, learns, learns.module, Student(module), step)
        return Case(module, step, begun, learns, student, photographs)

    return make


def run(learns: Learner, step: QuantizeStep, images: list[Tensor], steps: int) -> None:
    """Some steps of plain gradient descent, an epoch each."""
    planes, answers = normalise(torch.cat(images), IMAGE), torch.arange(len(images)) % CLASSES
    weights = [p for p in learns.module.parameters() if p.requires_grad]
    rules, descent = Schedule(step, learns.places), torch.optim.SGD(weights, lr=0.01)
    for epoch in range(steps):
        learns.module.train()
        rules.begin_epoch(learns.module, epoch, steps)
        F.cross_entropy(learns.module(planes), answers).backward()
        descent.step()
        descent.zero_grad()
        rules.after_step(learns.module)
    learns.module.eval()


def build(case: Case) -> ExportedProgram:
    """The int8 program, made as `edgekit.lower.prepare` does."""
    pixels = export.example(case.network)
    with quiet():
        program = export.export(export.with_camera_input(case.network), pixels)
        program = in_integer_forms(canonical(program, pixels), pixels)
        return quantise(
            program.module(check_guards=False),
            [pixels],
            case.step.scheme,
            Ptq(keep_float=case.student.keep_float),
            case.student.ranges,
        )
