"""What every backend's session keeps, whatever runs inside."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edgekit import plugins
from edgekit.errors import BundleError, MissingPackage, SpecError
from edgekit.spec import Fill, Session, SessionOptions, TensorSpec

OPTIONS = SessionOptions(threads=1)


@pytest.fixture
def session(backend: str, model: Path) -> Iterator[Session]:
    with closing(plugins.loader(backend)(model, OPTIONS)) as opened:
        yield opened


def filling(pixels: np.ndarray) -> Fill:
    def fill(inputs: Mapping[str, np.ndarray]) -> None:
        inputs["image"][...] = pixels

    return fill


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (1, 8, 12, 3), np.uint8)


def test_names_and_shapes_are_the_model_files(session: Session) -> None:
    assert session.inputs == (TensorSpec("image", (1, 8, 12, 3), "uint8"),)
    assert session.outputs == (TensorSpec("logits", (1, 3), "float32"),)


def test_computes_what_the_model_says(session: Session) -> None:
    for seed in range(3):
        logits = session.run(filling(picture(seed)))["logits"]
        np.testing.assert_allclose(logits, picture(seed).mean((1, 2)) / 16, rtol=1e-5)
        assert logits.dtype == np.float32


def test_outputs_are_the_callers(session: Session) -> None:
    first = session.run(filling(picture(0)))["logits"]
    before = first.copy()
    first_again = session.run(filling(picture(1)))["logits"]
    np.testing.assert_array_equal(first, before)
    assert first.flags.writeable
    assert not np.shares_memory(first, first_again)


def test_fill_writes_the_sessions_own_memory(session: Session) -> None:
    """What one run wrote is there in the next: no copy lies between."""
    session.run(filling(picture(0)))
    seen = []

    def look(inputs: Mapping[str, np.ndarray]) -> None:
        seen.append(inputs["image"].copy())
        assert inputs["image"].flags.c_contiguous
        assert inputs["image"].flags.writeable

    logits = session.run(look)["logits"]
    np.testing.assert_array_equal(seen[0], picture(0))
    np.testing.assert_allclose(logits, picture(0).mean((1, 2)) / 16, rtol=1e-5)


def test_a_kept_view_is_refused_and_the_session_lives_on(session: Session) -> None:
    kept: list[np.ndarray] = []

    def keep(inputs: Mapping[str, np.ndarray]) -> None:
        kept.append(inputs["image"][0, 2:])

    with pytest.raises(SpecError, match="kept a view of the input 'image'"):
        session.run(keep)
    kept.clear()
    assert session.run(filling(picture(0)))


def test_a_kept_mapping_is_harmless(session: Session) -> None:
    kept: list[Mapping[str, np.ndarray]] = []
    assert session.run(kept.append)
    assert not kept[0]


def test_an_error_in_fill_passes_and_the_session_lives_on(session: Session) -> None:
    def fail(inputs: Mapping[str, np.ndarray]) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        session.run(fail)
    assert session.run(filling(picture(0)))


def test_close_twice_and_use_after(session: Session) -> None:
    session.close()
    session.close()
    with pytest.raises(SpecError, match="closed"):
        session.run(filling(picture(0)))


@pytest.mark.parametrize("content", [b"", b"not a model " * 100])
def test_a_file_that_is_no_model(backend: str, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken"
    path.write_bytes(content)
    with pytest.raises(BundleError, match="refuses the model"):
        plugins.loader(backend)(path, OPTIONS)


def test_a_file_that_is_not_there(backend: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot read the model"):
        plugins.loader(backend)(tmp_path / "none", OPTIONS)


def test_free_shapes_are_refused(backend: str, free_model: Path) -> None:
    if backend == "executorch":
        pytest.skip("a .pte tells no more of a free size than its bound, see its own tests")
    with pytest.raises(SpecError, match="no fixed shape"):
        plugins.loader(backend)(free_model, OPTIONS)


def test_the_file_may_be_replaced_while_it_runs(session: Session, model: Path) -> None:
    files = [path for path in (model, *model.rglob("*")) if path.is_file()]
    assert files
    for path in files:
        with path.open("r+b") as file:
            file.truncate(0)
    assert session.run(filling(picture(0)))


def test_a_missing_runtime_names_the_extra(
    backend: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    packages = {
        "coreml": "coremltools",
        "executorch": "executorch.extension.pybindings",
        "litert": "ai_edge_litert.interpreter",
        "onnx": "onnxruntime",
    }
    package = packages.get(backend, backend)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackage, match=rf"edgekit\[{backend}\]"):
        plugins.loader(backend)(model, OPTIONS)


def test_notes_say_what_runs(session: Session, backend: str) -> None:
    expected = {
        "coreml": "edgekit's interpreter executes the program",
        "litert": "XNNPACK runs",
        "onnx": "runs on CPUExecutionProvider",
        "openvino": "in f32: Reduce 1",
        "executorch": "delegates run 0 of 4 operators; left to portable kernels",
    }[backend]
    assert any(expected in note for note in session.notes)
