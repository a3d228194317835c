"""What is in the wheel, and what a device gets that installs the device extra alone."""

import email
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import edgekit

PACKAGES = ("architectures", "edgekit", "targets")


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built offline from a copy, so that nothing is left in the tree."""
    copy = tmp_path_factory.mktemp("a tree with spaces") / "edge kit"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, copy / name)
    for name in (*PACKAGES, "scripts", "tests"):  # the last two must not get in
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / name, copy / name, ignore=ignore)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    done = subprocess.run([*command, str(copy)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_is_pure_and_has_the_one_version(wheel: Path) -> None:
    assert wheel.name == f"edgekit-{edgekit.__version__}-py3-none-any.whl"


def test_the_wheel_holds_three_packages_and_nothing_else(contents: set[str]) -> None:
    top = {name.partition("/")[0] for name in contents}
    assert top == {*PACKAGES, f"edgekit-{edgekit.__version__}.dist-info"}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_source_file_is_in_the_wheel(contents: set[str], root: Path, package: str) -> None:
    kinds = (".html", ".py", ".toml", ".typed")
    paths = [path for path in (root / package).rglob("*") if path.suffix in kinds]
    wanted = {path.relative_to(root).as_posix() for path in paths}
    assert f"{package}/py.typed" in wanted
    assert wanted - contents == set(), "a folder without __init__.py is left out of the wheel"


def test_targets_and_the_checkpoint_with_its_card_are_in_the_wheel(
    contents: set[str], root: Path
) -> None:
    carried = {
        path.relative_to(root).as_posix()
        for path in (root / "edgekit" / "checkpoints").iterdir()
        if path.name != "__pycache__"
    }
    suffixes = {Path(name).suffix for name in carried}
    assert {".safetensors", ".json"} <= suffixes, "the repository carries a checkpoint and its card"
    assert carried <= contents
    for name in ("raspberry-pi", "jetson", "linux"):
        assert f"targets/{name}.toml" in contents


def test_metadata_names_the_licence_the_command_and_the_extras(wheel: Path) -> None:
    info = f"edgekit-{edgekit.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        commands = archive.read(f"{info}/entry_points.txt").decode()
        licence = archive.read(f"{info}/licenses/LICENSE").decode()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "Apache License" in licence
    assert metadata["Requires-Python"] == ">=3.10"
    runtimes = {"litert", "onnx", "openvino", "executorch", "coreml"}
    assert {*runtimes, "camera", "host", "dev"} == set(metadata.get_all("Provides-Extra", []))
    assert "edgekit = edgekit.cli.main:main" in commands


def test_the_device_extras_ask_for_no_framework(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = f"edgekit-{edgekit.__version__}.dist-info"
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
    for requirement in metadata.get_all("Requires-Dist", []):
        name, _, marker = requirement.partition(";")
        # ExecuTorch's Python runtime imports torch itself: the named exception.
        if not any(extra in marker for extra in ("host", "dev", "executorch")):
            assert not name.lower().startswith(("torch", "litert-torch", "onnx>", "onnxscript"))


@pytest.mark.slow
def test_the_device_extra_alone_runs_a_bundle(wheel: Path, root: Path, tmp_path: Path) -> None:
    """`pip install edgekit[litert,camera]` into a fresh environment, then `edgekit run`."""
    bundle = tmp_path / "bundle"
    host = [sys.executable, "-m", "edgekit.cli.main", "build", "--target", "raspberry-pi"]
    subprocess.run([*host, "-o", str(bundle)], check=True, capture_output=True, cwd=tmp_path)

    device = tmp_path / "device"
    subprocess.run([sys.executable, "-m", "venv", str(device)], check=True)
    pip = [str(device / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    installed = subprocess.run(
        [*pip, f"{wheel}[litert,camera]"], capture_output=True, text=True, check=False
    )
    offline = ("Temporary failure in name resolution", "NewConnectionError", "ProxyError")
    if installed.returncode != 0 and any(reason in installed.stderr for reason in offline):
        pytest.skip("the package index cannot be reached")
    assert installed.returncode == 0, installed.stderr

    listed = subprocess.run(
        [*pip[:3], "list", "--format=freeze"], capture_output=True, text=True, check=True
    ).stdout
    assert "torch" not in listed

    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    photograph = next((bundle / "golden").glob("*.png"))
    for verb in (["verify", str(bundle)], ["run", str(bundle), str(photograph)]):
        done = subprocess.run(
            [str(device / "bin" / "edgekit"), *verb],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=clean,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.strip()
