"""What every test may ask for."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.bundle import Accuracy, Golden, Hop, Manifest, Provenance, Tolerance, seal
from edgekit.spec import ImageSpec, SessionOptions, TensorSpec

ROOT = Path(__file__).resolve().parent.parent

# A shell starts what it puts in the background with Ctrl-C ignored, nohup with SIGHUP, and children
# inherit that; the tests that interrupt a program want it as a terminal would start it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real weights, images and videos, which lie outside of the repository; skips without them.

    `EDGEKIT_SHARED` names another folder than `../shared/data`.
    """
    folder = Path(os.environ.get("EDGEKIT_SHARED") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no shared data in {folder} (EDGEKIT_SHARED names another folder)")
    return folder


@pytest.fixture(scope="session")
def manifest() -> Manifest:
    """A manifest that keeps its laws, of a model of 4x4 pixels and three classes."""
    tolerance = Tolerance(0.5, 20.0, 1.0)
    return Manifest(
        schema=1,
        name="fake",
        target="linux",
        backend="onnx",
        precision="fp32",
        scheme="affine",
        model="model.onnx",
        inputs=(TensorSpec("image", (1, 4, 4, 3), "uint8"),),
        outputs=(TensorSpec("logits", (1, 3), "float32"),),
        image=ImageSpec(4, 4, crop_fraction=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        decoding="softmax",
        labels="labels.txt",
        session=SessionOptions(threads=1, providers=("CPUExecutionProvider",)),
        golden=(Golden("golden/0.png", "golden/0_input.npy", "golden/0_output.npy"),),
        golden_tolerance=tolerance,
        parity=(Hop("eager -> exported", 8, 1e-6, 120.0, 1.0, tolerance),),
        accuracy=Accuracy(0.5, 10, "ten made-up images"),
        provenance=Provenance("fake", {"width": 0.5}, "0" * 64, "", 0, "0" * 64, {"edgekit": "0"}),
        notes=("the model is made up",),
    )


@pytest.fixture(scope="session")
def make_bundle(manifest: Manifest) -> Callable[[Path], Path]:
    """Writes a small bundle whose model is fake bytes: enough for all that handles the format."""

    def make(folder: Path) -> Path:
        (folder / "golden").mkdir(parents=True)
        (folder / "model.onnx").write_bytes(bytes(range(256)))
        (folder / "labels.txt").write_bytes("cat\ncat\nchâteau\n".encode())
        for name in ("0.png", "0_input.npy", "0_output.npy"):
            (folder / "golden" / name).write_bytes(name.encode())
        (folder / "README.md").write_bytes(b"# A model that is made up\n")
        (folder / "report.json").write_bytes(b"{}\n")
        seal(folder, manifest)
        return folder

    return make
