"""A batch that is free: proven by the file itself, refused where it cannot be had."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit import plugins
from edgekit.errors import InputError, ParityError, SpecError, UnknownName
from edgekit.lower import dynamic, export
from edgekit.lower.calibrate import Images
from edgekit.lower.forms.canonical import canonical
from edgekit.lower.gate import parity
from edgekit.lower.network import Network
from edgekit.lower.plan import Request, make_plan
from edgekit.lower.prove import prove
from edgekit.spec import ImageSpec, SessionOptions

IMAGE = ImageSpec(32, 32)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def freed(module: nn.Module) -> torch.export.ExportedProgram:
    network = Network("net", module.eval(), IMAGE, tuple("abcde"), {}, "")
    pixels = export.example(network)
    eager = export.with_camera_input(network)
    return dynamic.free_batch(canonical(export.export(eager, pixels), pixels))


class Reshaping(nn.Module):
    """Sizes by number and by shape, a window partition, an expansion."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()  # (N, 8, 8, 8)
        x = x.view(-1, 8, 4, 2, 4, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, 8)  # (16 N, 4, 8)
        x = x.amax(1).reshape(x.shape[0] // 16, 16, 8)
        x = torch.cat([x, x[:, :1].expand(-1, 3, -1)], dim=1)
        logits: Tensor = self.head(x.mean(1))
        return logits


def test_several_images_are_answered_as_each_alone() -> None:
    torch.manual_seed(0)
    module = freed(Reshaping()).module(check_guards=False)
    images = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        together = module(images)
        alone = torch.cat([module(image[None]) for image in images])
    torch.testing.assert_close(together, alone)


class Joining(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token, self.head = nn.Parameter(torch.zeros(1, 3, 1, 32)), nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.cat([self.token, x], dim=2).mean((2, 3)))
        return logits


def test_a_batch_that_is_one_is_refused_with_the_line() -> None:
    with pytest.raises(SpecError) as caught:
        freed(Joining())
    assert "test_dynamic.py" in str(caught.value)
    assert "torch.cat([self.token, x]" in str(caught.value)


@pytest.mark.parametrize("precision", ["fp32", pytest.param("int8", marks=pytest.mark.slow)])
def test_the_gate_gives_the_file_several_images(
    precision: str, mixed: Network, images: Images, tmp_path: Path
) -> None:
    plan = make_plan(Request("linux", precision=precision, dynamic="batch"))
    proof = prove(plan, mixed, images, tmp_path, lambda _line: None)
    assert proof.hops[-1].name == "one -> batch of 3"
    assert proof.hops[-1].images == 3
    assert any("the batch is free" in note for note in proof.artifact.notes)
    session = plugins.loader("onnx")(proof.artifact.model, SessionOptions(threads=1))
    assert session.inputs[0].shape == (1, 32, 32, 3)
    assert session.outputs[0].shape == (1, 10)
    few = images.inputs[:7]
    together = plugins.batch_runner("onnx")(proof.artifact.model, np.concatenate(few))
    assert np.abs(together - parity.run_session(session, few)).max() < 0.01 * together.max()
    session.close()


def test_answers_that_depend_on_the_others_are_a_breach(
    mixed: Network, images: Images, tmp_path: Path
) -> None:
    plan = make_plan(Request("linux", precision="fp32"))
    model = prove(plan, mixed, images, tmp_path, lambda _line: None).artifact.model
    session = plugins.loader("onnx")(model, SessionOptions(threads=1))

    def mixed_up(_model: Path, given: np.ndarray) -> np.ndarray:
        return parity.run_session(session, [image[None] for image in given[::-1]])

    with pytest.raises(ParityError, match="one -> batch of 3"):
        dynamic.hold_batch(mixed_up, session, model, images.inputs, "fp32")
    with pytest.raises(SpecError, match="refuses 3 images at once"):
        dynamic.hold_batch(plugins.batch_runner("onnx"), session, model, images.inputs, "fp32")
    session.close()


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Request("raspberry-pi", dynamic="batch"), "cannot be had of litert: its interpreter"),
        (Request("jetson", dynamic="batch"), "TensorRT: its engine is built for the shapes"),
        (Request("linux", dynamic="hw"), "one bundle for each size"),
    ],
)
def test_where_it_cannot_be_had_it_is_said_why(request_: Request, says: str) -> None:
    with pytest.raises(InputError) as caught:
        make_plan(request_)
    assert says in str(caught.value)


def test_every_backend_takes_it_or_says_why_not() -> None:
    assert set(dynamic.WHY_NOT) | set(plugins.batch_backends()) == set(plugins.backends())


def test_another_shape_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'batch'"):
        make_plan(Request("linux", dynamic="bacth"))
