"""What can be built and run on this machine, and the command for what is missing.

Nothing heavy is imported here. Whether a package is there is read off the installation; whether a
runtime really loads, and what it was built with, is asked of a process of its own, so that a
broken one is a finding and not a crash.
"""

import ast
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from edgekit import __version__, plugins
from edgekit.device import child

PIXELS = ("cv2", "av")
"""What every source and output of frames needs; the extra `camera`."""
LOWERING = ("torch", "torchao")
"""What every compiler needs before its own toolkit; the extra `host`."""

_QUESTIONS = {
    "cv2": "import cv2; print(cv2.getBuildInformation())",
    "onnxruntime": "import os; os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1'); "
    "import onnxruntime; print(*onnxruntime.get_available_providers())",
    "ai_edge_litert": "import ai_edge_litert.interpreter",
    "executorch": "import torch, executorch.extension.pybindings._C",
    # Its converter, imported with it, sends telemetry: see targets/openvino/runtime.py.
    "openvino": "sys.modules['openvino.tools.ovc'] = None; import openvino",
}
_PATIENCE = 60  # seconds for an import from a slow SD card


@dataclass(frozen=True, slots=True)
class Package:
    """One package that some half needs."""

    name: str
    """As it is imported."""
    version: str
    """Empty if it is not installed."""
    problem: str
    """Why it cannot be used; empty if nothing is known against it."""


@dataclass(frozen=True, slots=True)
class Half:
    """One half of a backend: its compiler (host) or its session (device)."""

    backend: str
    half: str
    exists: bool
    """Whether edgekit has this half at all."""
    packages: tuple[Package, ...]
    install: str
    """The command that brings what is missing; empty if nothing is."""
    usable: bool
    """Whether it is there with all that it needs."""


@dataclass(frozen=True, slots=True)
class Camera:
    """A video device, as the kernel names it."""

    path: str
    name: str
    readable: bool
    """Whether this user may open it."""
    lasting: str = ""
    """Its name in /dev/v4l/by-id, which stays when cameras are plugged in anew; empty if it has
    none."""


@dataclass(frozen=True, slots=True)
class Source:
    """One kind of source that frames can be read from."""

    scheme: str
    about: str
    """How it is written and what it is, a line."""
    missing: str
    """What it needs and is not here; empty if nothing."""
    command: str
    """What brings it; empty if no command does."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings."""

    edgekit: str
    python: str
    platform: str
    board: str
    """Of a Raspberry Pi, a Jetson and the like; empty elsewhere."""
    cores: int
    memory_mb: int
    halves: tuple[Half, ...]
    targets: Mapping[str, str]
    """Target -> backend."""
    cameras: tuple[Camera, ...]
    sources: tuple[Source, ...]
    """All kinds that there are, usable here or not."""
    windows: bool
    """Whether OpenCV was built with windows and there is a display; `display://` needs both."""
    providers: tuple[str, ...]
    """ONNX Runtime's execution providers, TensorRT and CUDA among them if it has them."""

    def usable(self, backend: str, half: str) -> bool:
        """Whether this half of `backend` can be used here."""
        return any(it.usable for it in self.halves if (it.backend, it.half) == (backend, half))


def diagnose() -> Diagnosis:
    """Look at this machine; takes seconds, most of it in other processes."""
    needs = {
        (backend, half): _needs(backend, half)
        for backend in plugins.backends()
        for half in ("host", "device")
    }
    device = {
        name for (_, half), names in needs.items() if half == "device" for name in names or ()
    }
    answers = _ask({name for name in device if find_spec(name)})
    problems = {name: problem for name, (_, problem) in answers.items()}
    build = answers.get("cv2", ("", ""))[0]
    return Diagnosis(
        edgekit=__version__,
        python=platform.python_version(),
        platform=platform.platform(terse=True) + " " + platform.machine(),
        board=_text(Path("/proc/device-tree/model")),
        cores=os.cpu_count() or 1,
        memory_mb=_memory_mb(),
        halves=tuple(_half(*which, names, problems) for which, names in needs.items()),
        targets={name: plugins.target(name).backend for name in plugins.targets()},
        cameras=_cameras(),
        sources=tuple(_source(scheme) for scheme in plugins.cameras()),
        windows=_built_with(build, "GUI") and _has_display(),
        providers=tuple(answers.get("onnxruntime", ("", ""))[0].split()),
    )


def _needs(backend: str, half: str) -> tuple[str, ...] | None:
    """Packages that this half imports, read off its source; None if there is no such half."""
    path = plugins.backend_folder(backend) / {"host": "compiler.py", "device": "session.py"}[half]
    if not path.is_file():
        return None
    found = _imports(path) | set(LOWERING if half == "host" else PIXELS)
    return tuple(sorted(found))


def _imports(path: Path) -> set[str]:
    """Top names of the third-party packages that a file of a backend and its neighbours import."""
    found: set[str] = set()
    waiting, seen, root = [path], {path}, path.parent.parent
    while waiting:
        for module in _imported(waiting.pop()):
            top, *rest = module.split(".")
            if top == "targets":
                parts = [root.joinpath(*rest[:n]).with_suffix(".py") for n in (1, 2, 3)]
                near = {part for part in parts if part.is_file()} - seen
                seen |= near
                waiting += near
            elif top not in plugins.OURS and top not in sys.stdlib_module_names:
                found.add(top)
    return found


def _imported(path: Path) -> Iterable[str]:
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _half(
    backend: str, half: str, names: tuple[str, ...] | None, problems: Mapping[str, str]
) -> Half:
    packages = tuple(_package(name, problems.get(name, "")) for name in names or ())
    extra = "host" if half == "host" else f"{backend},camera"
    wrong = [package for package in packages if package.problem]
    command = f"pip install 'edgekit[{extra}]'" if wrong else ""
    if any(package.version for package in wrong):
        command = command.replace("install", "install --force-reinstall")
    exists = names is not None
    return Half(backend, half, exists, packages, command, usable=exists and not wrong)


def _package(name: str, problem: str) -> Package:
    if find_spec(name) is None:
        return Package(name, "", "not installed")
    distributions = _distributions().get(name, [name])
    try:
        version = metadata.version(distributions[0])
    except metadata.PackageNotFoundError:  # on the path, but not by pip
        version = "unknown"
    return Package(name, version, problem)


@cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _ask(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Import each package in its own process, all at once; what it printed, what went wrong."""
    started = {
        name: subprocess.Popen(
            child.command(_QUESTIONS.get(name, f"import {name}")),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        for name in names
    }
    return {name: _answer(process) for name, process in started.items()}


def _answer(process: "subprocess.Popen[str]") -> tuple[str, str]:
    try:
        out, err = process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return "", f"does not load within {_PATIENCE} s"
    if process.returncode:
        lines = err.strip().splitlines() or [f"exit code {process.returncode}"]
        return "", f"does not load: {lines[-1]}"
    return out, ""


def _cameras() -> tuple[Camera, ...]:
    devices = sorted(Path("/dev").glob("video*"), key=lambda path: (len(path.name), path.name))
    lasting = {link.resolve(): str(link) for link in sorted(Path("/dev/v4l/by-id").glob("*"))}
    return tuple(
        Camera(
            str(path),
            _text(Path("/sys/class/video4linux") / path.name / "name"),
            os.access(path, os.R_OK | os.W_OK),
            lasting.get(path, ""),
        )
        for path in devices
    )


def _source(scheme: str) -> Source:
    module = plugins.camera(scheme)
    asked = getattr(module, "missing", None)
    lacks = asked() if asked is not None else None
    about = (module.__doc__ or "").partition("\n")[0]
    return Source(scheme, about, lacks.what if lacks else "", lacks.command if lacks else "")


def _built_with(build: str, what: str) -> bool:
    """Whether OpenCV's build information has a line `what: YES` or `what: QT5` and the like."""
    values = [line.partition(":")[2].strip() for line in build.splitlines() if f"{what}:" in line]
    return any(value and not value.startswith(("NO", "NONE")) for value in values)


def _has_display() -> bool:
    if sys.platform != "linux":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _memory_mb() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 10**6
    except (ValueError, OSError, AttributeError):  # not POSIX
        return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""
