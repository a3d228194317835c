"""What only ExecuTorch's session has: one thread pool for all, and files without names."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import BundleError, SpecError
from edgekit.spec import SessionOptions
from targets.executorch.session import ExecuTorchSession, account, load


@pytest.fixture
def backend() -> str:
    return "executorch"


@pytest.fixture
def session(model: Path) -> Iterator[ExecuTorchSession]:
    with closing(load(model, SessionOptions(threads=1))) as opened:
        yield opened


def test_a_free_size_is_taken_at_its_bound(free_model: Path) -> None:
    with closing(load(free_model, SessionOptions())) as session:
        assert session.inputs[0].shape == (4, 8, 12, 3)
        pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 12, 3), np.uint8)
        logits = session.run(lambda inputs: np.copyto(inputs["image"], pixels))["logits"]
    np.testing.assert_allclose(logits, pixels.mean((1, 2)) / 16, rtol=1e-5)


def test_the_pool_is_resized_only_while_nothing_is_open(
    session: ExecuTorchSession, model: Path
) -> None:
    """A model keeps a pointer to the pool: a new one under it would crash the process."""
    assert " 1 thread;" in session.notes[0]
    with closing(load(model, SessionOptions(threads=2))) as other:
        assert " 1 thread;" in other.notes[0]
        assert "stays at 1 threads, not 2, as another model is open" in other.notes[1]
    session.close()
    with closing(load(model, SessionOptions(threads=2))) as other:
        assert " 2 threads;" in other.notes[0]
        assert len(other.notes) == 1


def test_the_weights_outlive_the_callers_references(model: Path) -> None:
    """The runtime reads them in the bytes that it was given, and does not hold these itself."""
    import gc

    with closing(load(model, SessionOptions(threads=1))) as session:
        gc.collect()
        waste = [bytes(model.stat().st_size) for _ in range(50)]
        session.run(lambda inputs: np.copyto(inputs["image"], 160))
        found = session.run(lambda inputs: np.copyto(inputs["image"], 160))
        assert len(waste) == 50
    np.testing.assert_allclose(found["logits"], 10)


@pytest.mark.parametrize("size", [3, 60, 400, -1])
def test_a_truncated_file_is_refused_with_the_runtimes_reason(
    model: Path, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "half.pte"
    path.write_bytes(model.read_bytes()[:size])
    with pytest.raises(BundleError, match="ExecuTorch refuses the model") as caught:
        load(path, SessionOptions())
    assert len(str(caught.value).splitlines()) == 1


def test_nothing_is_left_on_stderr(model: Path, root: Path) -> None:
    """ExecuTorch logs files of the processor that it does not find, as if they were errors."""
    code = (
        "import sys, pathlib\nfrom edgekit.spec import SessionOptions\n"
        "from targets.executorch.session import load\n"
        "load(pathlib.Path(sys.argv[1]), SessionOptions(threads=1)).close()\n"
        "assert 'executorch.exir' not in sys.modules, 'nine seconds'\n"
        "print('afterwards', file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(model)],
        capture_output=True, text=True, check=True, cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.stderr == "afterwards\n"


def test_the_account_names_what_is_left() -> None:
    kinds = Counter({"XNNPACK.Conv2d": 52, "aten::mean.out": 1})
    expected = "1 thread; delegates run 52 of 53 operators; left to portable kernels: mean.out 1"
    assert account("1.5.1", 1, kinds) == f"ExecuTorch 1.5.1: {expected}"


def test_use_after_close_is_refused(session: ExecuTorchSession) -> None:
    session.close()
    with pytest.raises(SpecError, match="closed"):
        session.run(lambda inputs: None)
