"""The device half is light: no framework is imported, and none is needed."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

import edgekit

ROOT = Path(__file__).resolve().parent.parent

FRAMEWORKS = (
    "coremltools",
    "executorch",
    "jax",
    "litert_torch",
    "onnx",
    "onnxscript",
    "tensorflow",
    "torch",
    "torchao",
)
RUNTIMES = ("ai_edge_litert", "av", "cv2", "onnxruntime", "openvino")

# In the child: any import of these raises, as on a machine where they are not installed.
BLOCKER = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is hidden by the test", name=name)
sys.meta_path.insert(0, Absent())
"""


def python(code: str, *arguments: str) -> str:
    """Run `code` in a fresh interpreter, warnings as errors; its standard output."""
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def device_modules() -> list[str]:
    files = [
        *(ROOT / "edgekit").glob("*.py"),
        *(ROOT / "edgekit" / "device").rglob("*.py"),
        *(ROOT / "edgekit" / "cli").rglob("*.py"),
        *(ROOT / "edgekit" / "weights" / f"{name}.py" for name in ("fetch", "https", "download")),
        *(ROOT / "targets").glob("*/session.py"),
    ]
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted(files))
    return [name.removesuffix(".__init__") for name in names]


def loaded_by(code: str, names: tuple[str, ...]) -> set[str]:
    """Which of the packages `names` are imported once `code` has run."""
    listing = f"{code}\nimport sys\nprint(*sys.modules, file=sys.__stdout__)"
    return set(names) & {name.partition(".")[0] for name in python(listing).split()}


def test_import_edgekit_loads_no_framework_and_no_runtime() -> None:
    heavy = (*FRAMEWORKS, *RUNTIMES, "numpy", "pydantic", "rich", "typer")
    assert loaded_by("import edgekit", heavy) == set()


def test_a_bundle_is_read_without_pydantic() -> None:
    folder = ROOT / "tests" / "bundles" / "v1" / "raspberry-pi-int8"
    code = (
        f"from pathlib import Path\nfrom edgekit import bundle\nbundle.read(Path({str(folder)!r}))"
    )
    assert loaded_by(code, ("pydantic", "tomllib", *FRAMEWORKS, *RUNTIMES)) == set()


COMMAND = """
import contextlib, io
from edgekit.cli.main import main
with contextlib.redirect_stdout(io.StringIO()):
    assert main(ARGUMENTS) == 0
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["targets"], ["architectures"], ["build", "--help"]]
)
def test_what_needs_no_framework_loads_none(arguments: list[str]) -> None:
    assert loaded_by(f"ARGUMENTS = {arguments!r}\n{COMMAND}", (*FRAMEWORKS, *RUNTIMES)) == set()


def test_help_is_quick() -> None:
    command = [sys.executable, "-c", "from edgekit.cli.main import main; main()", "--help"]
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True, cwd=ROOT)
        times.append(time.perf_counter() - start)
    assert min(times) < 1.0, "aimed at 0.3 s on an idle machine"


@pytest.mark.parametrize("module", device_modules())
def test_every_device_module_imports_where_there_is_no_framework(module: str) -> None:
    code = f"BLOCKED = {FRAMEWORKS!r}\n{BLOCKER}\nimport importlib\n"
    python(f"{code}importlib.import_module({module!r})")


def test_every_public_name_is_there() -> None:
    for name in edgekit.__all__:
        assert getattr(edgekit, name) is not None
    assert dir(edgekit) == sorted(edgekit.__all__)


def test_a_wrong_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'reed'"):
        _ = edgekit.reed
