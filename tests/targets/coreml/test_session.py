"""What is Core ML's own, without a Mac: how its runtime is asked, and what it is told."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from edgekit.errors import BundleError, EdgekitError, MissingPackage
from edgekit.spec import SessionOptions, TensorSpec
from targets.coreml.operators import operators
from targets.coreml.session import UNITS, load, predictor

Write = Callable[..., Path]

IMAGE = TensorSpec("image", (1, 8, 12, 3), "uint8")
LOGITS = TensorSpec("logits", (1, 3), "float32")
PICTURE = np.random.default_rng(0).integers(0, 256, IMAGE.shape, np.uint8)

pytestmark = pytest.mark.filterwarnings("ignore")


def colours(mb: Any, image: Any) -> Any:
    means = mb.reduce_mean(x=image, axes=[2, 3])
    return mb.sub(x=means, y=np.float32(16), name="logits")


class Model:
    """Answers as coremltools' `MLModel` does on macOS, with the means of the image's colours."""

    def predict(self, given: Mapping[str, Any]) -> dict[str, Any]:
        pixels = np.asarray(given["image"])
        return {"logits": pixels.mean((0, 1)).astype(np.float64)[None], "classLabel": "a"}


class Broken:
    def predict(self, given: Mapping[str, Any]) -> dict[str, Any]:
        raise RuntimeError("no\nprocessor")


def test_the_runtime_is_given_an_rgb_image_and_gives_the_tensors() -> None:
    pytest.importorskip("PIL")
    found = predictor(Model(), IMAGE, (LOGITS,))(PICTURE)
    assert set(found) == {"logits"}
    assert found["logits"].dtype == np.float32
    np.testing.assert_allclose(found["logits"], PICTURE.mean((1, 2)), rtol=1e-6)


def test_a_runtime_that_fails_is_one_line() -> None:
    pytest.importorskip("PIL")
    with pytest.raises(EdgekitError, match="Core ML failed while running: no processor"):
        predictor(Broken(), IMAGE, (LOGITS,))(PICTURE)


def test_an_image_needs_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingPackage, match="pillow"):
        predictor(Model(), IMAGE, (LOGITS,))


def test_every_choice_of_processors_is_coremltools_own(ct: Any) -> None:
    assert set(UNITS) == set(get_args(get_type_hints(SessionOptions)["compute_units"]))
    assert all(name in ct.ComputeUnit.__members__ for name in UNITS.values())


def test_on_macos_the_real_runtime_opens_the_package(
    write: Write, ct: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("PIL")
    asked: list[Any] = []

    def opened(path: str, compute_units: Any) -> Model:
        asked.append(compute_units)
        return Model()

    path = write(colours)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ct.models, "MLModel", opened)
    found = load(path, SessionOptions(compute_units="cpu_and_ane"))
    assert asked == [ct.ComputeUnit.CPU_AND_NE]
    assert (found.inputs, found.outputs) == ((IMAGE,), (LOGITS,))
    assert any("CPU_AND_NE" in note for note in found.notes)


@pytest.mark.skipif(sys.platform != "darwin", reason="Core ML runs on macOS alone")
def test_the_interpreter_computes_what_core_ml_does(write: Write) -> None:
    from targets.coreml.interpreter import Interpreter

    path = write(colours)
    real = load(path, SessionOptions(compute_units="cpu_only"))
    found = real.run(lambda inputs: np.copyto(inputs["image"], PICTURE))["logits"]
    np.testing.assert_allclose(found, Interpreter(path).run(PICTURE)["logits"], rtol=1e-4)


def test_operators_are_those_that_coremltools_wrote(write: Write) -> None:
    assert operators(write(colours)) == {"reduce_mean": 1, "sub": 1}


def test_a_message_that_holds_no_program_has_no_operators(write: Write) -> None:
    path = write(colours)
    (path / "Data" / "com.apple.CoreML" / "model.mlmodel").write_bytes(b"")
    with pytest.raises(BundleError, match="not a Core ML model"):
        operators(path)
