import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit import plugins
from edgekit.device import doctor
from edgekit.device.doctor import diagnose

Answers = Callable[[set[str]], dict[str, tuple[str, str]]]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, str]]:
    """What the packages answer, without asking them; the test changes it."""
    found: dict[str, tuple[str, str]] = {}
    monkeypatch.setattr(doctor, "_ask", lambda names: found)
    monkeypatch.setattr(doctor, "find_spec", lambda name: object())
    return found


def half(backend: str, name: str) -> doctor.Half:
    (found,) = (it for it in diagnose().halves if (it.backend, it.half) == (backend, name))
    return found


def test_every_backend_and_target_is_judged(answers: dict[str, tuple[str, str]]) -> None:
    found = diagnose()
    assert {it.backend for it in found.halves} == set(plugins.backends())
    assert tuple(found.targets) == plugins.targets()
    assert all(found.usable(it.backend, "device") for it in found.halves)


def test_needs_are_read_off_the_source(answers: dict[str, tuple[str, str]]) -> None:
    names = [package.name for package in half("onnx", "device").packages]
    assert {"onnxruntime", "cv2", "av"} <= set(names)
    assert not {"edgekit", "targets", "os", "torch"} & set(names)


def test_a_missing_package_names_the_extras(
    answers: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        doctor, "find_spec", lambda name: None if name in ("ai_edge_litert", "torch") else object()
    )
    litert = half("litert", "device")
    assert not litert.usable
    assert litert.install == "pip install 'edgekit[litert,camera]'"
    assert half("onnx", "device").usable
    assert doctor._half("onnx", "host", ("torch",), {}).install == "pip install 'edgekit[host]'"


def test_a_package_that_does_not_load_is_installed_again(
    answers: dict[str, tuple[str, str]],
) -> None:
    answers["onnxruntime"] = ("", "does not load: libcudart.so.12: cannot open")
    onnx = half("onnx", "device")
    assert not onnx.usable
    assert onnx.install == "pip install --force-reinstall 'edgekit[onnx,camera]'"
    (runtime,) = (it for it in onnx.packages if it.name == "onnxruntime")
    assert runtime.problem.endswith("cannot open")


def test_a_half_that_edgekit_lacks_is_not_usable() -> None:
    found = doctor._half("tofu", "host", None, {})
    assert (found.exists, found.usable, found.install) == (False, False, "")


@pytest.mark.parametrize(
    ("build", "gstreamer", "gui"),
    [
        ("  GUI:   NONE\n  GStreamer:   NO\n", False, False),
        ("  GUI:   QT5\n    QT: YES (ver 5)\n  GStreamer:   YES (1.22.0)\n", True, True),
        ("", False, False),
    ],
)
def test_opencv_is_read_off_its_build_information(build: str, gstreamer: bool, gui: bool) -> None:
    assert doctor._built_with(build, "GStreamer") is gstreamer
    assert doctor._built_with(build, "GUI") is gui


def test_packages_are_asked_in_processes_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "sound_package.py").write_text("print('hello')")
    (tmp_path / "broken_package.py").write_text("raise ImportError('libGL.so.1: no such file')")
    (tmp_path / "fatal_package.py").write_text("import os; os.abort()")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from edgekit.device.doctor import _ask\n"
        "print(_ask(['sound_package', 'broken_package', 'fatal_package']))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert eval(out.stdout) == {
        "sound_package": ("hello\n", ""),
        "broken_package": ("", "does not load: ImportError: libGL.so.1: no such file"),
        "fatal_package": ("", "does not load: exit code -6"),
    }


def test_the_diagnosis_itself_imports_nothing_heavy() -> None:
    code = (
        "import sys; from edgekit.device.doctor import diagnose; diagnose()\n"
        "print(*{'torch', 'cv2', 'onnxruntime', 'ai_edge_litert', 'av'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ""
