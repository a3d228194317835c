import glob
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit import plugins
from edgekit.device import doctor, missing
from edgekit.device.cameras import _gstreamer, csi
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
    ("build", "gui"),
    [("  GUI:   NONE\n", False), ("  GUI:   QT5\n    QT: YES (ver 5)\n", True), ("", False)],
)
def test_opencv_is_read_off_its_build_information(build: str, gui: bool) -> None:
    assert doctor._built_with(build, "GUI") is gui


def test_every_source_is_listed_with_what_it_lacks(
    answers: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missing, "find_spec", lambda name: None)
    monkeypatch.setattr(_gstreamer, "installed", lambda: False)
    monkeypatch.setattr(glob, "glob", lambda pattern: [])
    found = {source.scheme: source for source in diagnose().sources}
    assert tuple(found) == plugins.cameras()
    assert all(source.about.startswith("`") for source in found.values())
    for scheme, what, command in (
        ("file", "the package av", "pip install 'edgekit[camera]'"),
        ("rtsp", "the package av", "pip install 'edgekit[camera]'"),
        ("image", "the package opencv-python-headless", "pip install 'edgekit[camera]'"),
        ("gst", "GStreamer", "sudo apt install gstreamer1.0-plugins-base"),
        ("csi", "GStreamer", "sudo apt install gstreamer1.0-plugins-base"),
        ("v4l2", "a camera: there is no /dev/video*", ""),
    ):
        assert found[scheme].missing == what
        assert found[scheme].command.startswith(command)
    assert found["synthetic"].missing == ""


def test_permission_is_what_a_source_may_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glob, "glob", lambda pattern: ["/dev/video0"])
    for allowed in (True, False):
        monkeypatch.setattr("os.access", lambda path, mode, allowed=allowed: allowed)
        source = doctor._source("v4l2")
        assert bool(source.missing) is not allowed
        assert ("usermod -aG video" in source.command) is not allowed


def test_nothing_is_missing_where_all_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missing, "find_spec", lambda name: object())
    monkeypatch.setattr(_gstreamer, "installed", lambda: True)
    for scheme in ("file", "rtsp", "image", "dir", "gst", "synthetic", "shm"):
        assert doctor._source(scheme).missing == ""
    monkeypatch.setattr(csi, "has_element", lambda name: False)
    assert "gstreamer1.0-libcamera" in doctor._source("csi").command


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
