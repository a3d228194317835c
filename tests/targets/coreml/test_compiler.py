"""What is Core ML's own in its compiler: options, labels, bytes, what it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchao.quantization.pt2e.quantize_pt2e  # registers quantized_decomposed
from torch import Tensor, nn

from edgekit.errors import SpecError
from edgekit.files import walk
from edgekit.spec import ImageSpec, ModelSpec, Precision, TensorSpec
from targets.coreml.classifier import unique
from targets.coreml.compiler import compile
from targets.coreml.interpreter import Interpreter

Options = dict[str, str | int | float | bool]
Build = Callable[..., Path]

LABELS = ("crane", "château", "crane", "snail")
IMAGES = [np.random.default_rng(n).integers(0, 256, (1, 9, 13, 3), np.uint8) for n in range(3)]

pytestmark = pytest.mark.filterwarnings("ignore")


class Small(nn.Module):
    """Odd sizes throughout: padding on one side, a transposed convolution, attention, norms."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=(0, 1))
        self.pool = nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True)
        self.most = nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True)
        self.norm = nn.LayerNorm(6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.head = nn.Linear(6, len(LABELS))
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        x = image.permute(0, 3, 1, 2).float() / 255 - 0.5
        x = nn.functional.silu(self.stem(x))
        x = nn.functional.gelu(self.up(x))
        x = self.pool(x) + self.most(nn.functional.hardswish(x))
        x = nn.functional.pad(x, (1, 0, 0, 2))
        x = torch.cat((x[:, 1:], x[:, :1]), 1)
        x = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        rows = self.norm(x.flatten(2).transpose(1, 2))
        rows = rows + self.attention(rows, rows, rows, need_weights=False)[0]
        found: Tensor = self.head(rows.mean(1))
        return found


def spec(precision: Precision = "fp32", labels: tuple[str, ...] = LABELS) -> ModelSpec:
    return ModelSpec(
        name="small",
        image=ImageSpec(9, 13),
        classes=len(LABELS),
        precision=precision,
        scheme="affine",
        input=TensorSpec("image", (1, 9, 13, 3), "uint8"),
        output=TensorSpec("logits", (1, len(LABELS)), "float32"),
        labels=labels,
    )


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """`build(precision, **options)`: a package anew at each call."""
    assert torchao is not None
    program = torch.export.export(Small(), (torch.from_numpy(IMAGES[0]),))

    def build(precision: Precision = "fp32", **options: str | bool) -> Path:
        out = tmp_path_factory.mktemp("coreml")
        return compile(program, spec(precision), options, out).model

    return build


@pytest.fixture(scope="module")
def package(build: Build) -> Path:
    return build()


def message(ct: Any, path: Path) -> Any:
    found = ct.proto.Model_pb2.Model()
    found.ParseFromString((path / "Data/com.apple.CoreML/model.mlmodel").read_bytes())
    return found


def test_it_computes_what_torch_does(package: Path) -> None:
    interpreter = Interpreter(package)
    for image in IMAGES:
        expected = Small()(torch.from_numpy(image)).numpy()
        np.testing.assert_allclose(interpreter.run(image)["logits"], expected, atol=2e-6)


def test_it_is_a_classifier_beside_its_logits(package: Path) -> None:
    interpreter = Interpreter(package)
    for image in IMAGES:
        values = interpreter.values(image)
        index = int(values["logits"].argmax())
        assert values["classLabel"] == unique(LABELS)[index]
        pairs = values["classLabel_probs"]
        expected = torch.softmax(values["logits"], -1).reshape(-1).tolist()
        assert list(pairs.values()) == pytest.approx(expected, abs=1e-6)


def test_xcode_and_vision_are_told_so(package: Path, ct: Any) -> None:
    found = message(ct, package).description
    assert (found.predictedFeatureName, found.predictedProbabilitiesName) == (
        "classLabel",
        "classLabel_probs",
    )
    kinds = {each.name: each.type.WhichOneof("Type") for each in found.output}
    assert kinds == {
        "logits": "multiArrayType",
        "classLabel": "stringType",
        "classLabel_probs": "dictionaryType",
    }
    (image,) = found.input
    assert (image.name, image.type.imageType.width, image.type.imageType.height) == ("image", 13, 9)
    assert "9x13" not in image.shortDescription
    assert "13x9" in image.shortDescription
    assert not [key for key in found.metadata.userDefined if "date" in key]


def test_a_label_of_two_classes_is_told_apart() -> None:
    assert unique(LABELS) == ("crane (0)", "château", "crane (2)", "snail")
    assert unique(("a", "b")) == ("a", "b")


@pytest.mark.slow
def test_two_builds_are_the_same_bytes(build: Build, package: Path) -> None:
    again = build()
    names = sorted(walk(package))
    assert names == sorted(walk(again))
    assert [n for n in names if (package / n).read_bytes() != (again / n).read_bytes()] == []


@pytest.mark.slow
def test_float16_and_another_system_and_no_classifier(build: Build, ct: Any) -> None:
    path = build("fp16", deployment_target="macOS15", classifier=False)
    interpreter = Interpreter(path)
    assert interpreter.program.half
    assert [output.name for output in interpreter.program.outputs] == ["logits"]
    found = message(ct, path)
    assert [output.name for output in found.description.output] == ["logits"]
    assert found.specificationVersion == ct.target.macOS15
    for image in IMAGES:
        expected = Small()(torch.from_numpy(image)).numpy()
        np.testing.assert_allclose(interpreter.run(image)["logits"], expected, atol=5e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"deployment_target": "iOS9"},
        {"compute": "int8"},
        {"classifier": 1},
        {"turbo": True},
    ],
)
def test_an_unknown_option_names_those_that_are_known(tmp_path: Path, options: Options) -> None:
    program = torch.export.export(Small(), (torch.from_numpy(IMAGES[0]),))
    with pytest.raises(SpecError, match=r"is not an option of the backend coreml; valid are"):
        compile(program, spec(), options, tmp_path)


def test_int8_wants_a_system_that_has_it(tmp_path: Path) -> None:
    program = torch.export.export(Small(), (torch.from_numpy(IMAGES[0]),))
    with pytest.raises(SpecError, match="'iOS16' has no int8 operators .* 'iOS17'"):
        compile(program, spec("int8"), {"deployment_target": "iOS16"}, tmp_path)
    assert list(tmp_path.iterdir()) == []


class Eigenvalues(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = torch.linalg.eigvals(image[0, :3, :3, 0].float()).real[None]
        return found


@pytest.mark.slow
def test_an_operator_that_coremltools_does_not_know_is_named(tmp_path: Path) -> None:
    program = torch.export.export(Eigenvalues(), (torch.from_numpy(IMAGES[0]),))
    with pytest.raises(SpecError, match="coremltools cannot convert this network: .*eigvals"):
        compile(program, spec(), {}, tmp_path)
    assert list(tmp_path.iterdir()) == []
