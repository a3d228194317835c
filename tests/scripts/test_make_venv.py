import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def make_venv(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module that looks at a tree of its own, with a space in its name."""
    spec = importlib.util.spec_from_file_location("make_venv", root / "scripts" / "make_venv.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tree = tmp_path / "a tree"
    tree.mkdir()
    (tree / "pyproject.toml").write_text("[project]\n")
    venv = tree / ".venv"
    monkeypatch.setattr(module, "ROOT", tree)
    monkeypatch.setattr(module, "VENV", venv)
    monkeypatch.setattr(module, "STAMP", venv / "edgekit-stamp")
    monkeypatch.setattr(module, "UNFINISHED", venv / "edgekit-unfinished")
    return module


def fake_environment(make_venv: ModuleType) -> Path:
    """What `venv` leaves, as far as the script looks at it."""
    venv: Path = make_venv.VENV
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    (venv / "bin" / "pip").write_text(f"#!{venv}/bin/python\n")
    return venv


def test_no_environment_is_not_ready_and_not_unusable(make_venv: ModuleType) -> None:
    assert not make_venv.ready()
    assert make_venv.unusable() == ""


def test_a_stamp_is_good_until_the_dependencies_change(make_venv: ModuleType) -> None:
    fake_environment(make_venv)
    assert not make_venv.ready()
    make_venv.STAMP.write_text(make_venv.fingerprint())
    assert make_venv.ready()
    (make_venv.ROOT / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    assert not make_venv.ready()


def test_an_environment_made_by_hand_is_kept(make_venv: ModuleType) -> None:
    fake_environment(make_venv)
    assert make_venv.unusable() == ""


def test_what_was_interrupted_moved_or_of_another_python_is_not(make_venv: ModuleType) -> None:
    venv = fake_environment(make_venv)
    make_venv.UNFINISHED.touch()
    assert make_venv.unusable() == "was left unfinished"
    make_venv.UNFINISHED.unlink()
    (venv / "bin" / "pip").write_text("#!/elsewhere/.venv/bin/python\n")
    assert make_venv.unusable() == "was made in another place"
    (venv / "bin" / "python").unlink()
    assert make_venv.unusable() == "is of another Python"


def test_setup_refuses_a_python_that_cannot_do_it(root: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "scripts").mkdir(parents=True)
    (tree / "scripts" / "setup").write_bytes((root / "scripts" / "setup").read_bytes())
    done = subprocess.run(
        ["bash", str(tree / "scripts" / "setup")],
        env={**os.environ, "PYTHON": "/bin/false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "PYTHON=/bin/false is not a Python 3.10 or newer" in done.stderr
    assert not (tree / ".venv").exists()
