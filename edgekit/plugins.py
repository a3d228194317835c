"""Find an architecture, a backend, a target, a camera or an output by its file name.

Nothing registers itself: adding a file to `architectures/`, `targets/`, `edgekit/device/cameras/`
or `edgekit/device/outputs/` is all that it takes. Listing imports none of the plug-ins, so it loads
no framework; only asking for one by name imports that one.
"""

import ast
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from edgekit.errors import EdgekitError, InputError, MissingPackage, SpecError, UnknownName
from edgekit.spec import Compile, Load, Place, Target
from edgekit.values import parse, toml_mapping

HERE = Path(__file__).resolve().parent
OURS = ("edgekit", "architectures", "targets")


def targets() -> tuple[str, ...]:
    """Names of the device families: the `.toml` files in `targets/`."""
    return _sorted(path.stem for path in _beside("targets").glob("*.toml"))


def target(name: str) -> Target:
    """Read one device family, and check that its backend exists.

    Raises:
        UnknownName: there is no such target, or no such backend.
        SpecError: the file has an unknown key, a missing key or a wrong type.
    """
    _known("target", name, targets())
    path = _beside("targets") / f"{name}.toml"
    mapping = toml_mapping(path)
    if "name" in mapping:
        raise SpecError(f"{path}: the file's name is the target's name; remove the key 'name'")
    found = parse(Target, {**mapping, "name": name}, str(path))
    _known("backend", found.backend, backends())
    return found


def backends() -> tuple[str, ...]:
    """Names of the runtime formats: the folders in `targets/` that hold a half of one."""
    halves = ("compiler.py", "session.py")
    folders = (path for path in _beside("targets").iterdir() if path.is_dir())
    return _sorted(path.name for path in folders if any((path / half).is_file() for half in halves))


def backend_folder(name: str) -> Path:
    """The folder of a backend, where its halves lie."""
    _known("backend", name, backends())
    return _beside("targets") / name


def compiler(name: str) -> Compile:
    """The host half of a backend: `compile` of `targets/<name>/compiler.py`.

    Raises:
        UnknownName: no such backend, or one without a host half.
        MissingPackage: its toolkit is not installed.
    """
    _known("backend with a compiler", name, _with("compiler.py"))
    module = _import(f"targets.{name}.compiler", "host", f"building for the backend '{name}'")
    return cast(Compile, module.compile)


def loader(name: str) -> Load:
    """The device half of a backend: `load` of `targets/<name>/session.py`.

    Raises:
        UnknownName: no such backend, or one without a device half.
        MissingPackage: its runtime is not installed.
    """
    _known("backend with a session", name, _with("session.py"))
    module = _import(f"targets.{name}.session", name, f"running a bundle of the backend '{name}'")
    return cast(Load, module.load)


def reader(name: str) -> Callable[[Path], Mapping[str, int]]:
    """How a backend counts the operators in its model file: `targets/<name>/operators.py`.

    Raises:
        UnknownName: no such backend, or one that cannot tell.
    """
    _known("backend that lists operators", name, _with("operators.py"))
    module = _import(f"targets.{name}.operators", name, f"reading a model of '{name}'")
    return cast(Callable[[Path], Mapping[str, int]], module.operators)


def placer(name: str) -> Place:
    """How a backend tells what its accelerator takes: `place` of `targets/<name>/placement.py`.

    Raises:
        UnknownName: no such backend, or one that cannot tell.
        MissingPackage: what reads its files is not installed.
    """
    _known("backend that tells what falls back", name, _with("placement.py"))
    module = _import(f"targets.{name}.placement", "host", f"telling what falls back on '{name}'")
    return cast(Place, module.place)


def batch_backends() -> tuple[str, ...]:
    """Backends whose files can take any number of images: those with a `batch.py`."""
    return _with("batch.py")


def batch_runner(name: str) -> Callable[[Path, Any], Any]:
    """How a backend's file is run on several images: `run_batch` of `targets/<name>/batch.py`.

    Raises:
        UnknownName: no such backend, or one whose files have fixed shapes.
        MissingPackage: its runtime is not installed.
    """
    _known("backend with a free batch", name, batch_backends())
    module = _import(f"targets.{name}.batch", name, f"running several images on '{name}'")
    return cast(Callable[[Path, Any], Any], module.run_batch)


def architectures() -> tuple[str, ...]:
    """Names of the network builders that the files in `architectures/` state in `__all__`."""
    return _sorted(_builders())


def architecture(name: str) -> Callable[..., Any]:
    """The function that builds the network `name`; imports torch.

    Raises:
        UnknownName: no file states that builder.
        MissingPackage: torch is not installed.
    """
    builders = _builders()
    _known("architecture", name, builders)
    module = _import(f"architectures.{builders[name]}", "host", f"the architecture '{name}'")
    return cast(Callable[..., Any], getattr(module, name))


def converter(name: str, function: str) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """The function `function` of the file that states the builder `name`; maps a state dict.

    Raises:
        UnknownName: no file states that builder. SpecError: it has no such function.
    """
    module = inspect.getmodule(architecture(name))
    if not callable(found := getattr(module, function, None)):
        raise SpecError(f"{architecture_file(name)} has no function '{function}'")
    return cast(Callable[[Mapping[str, Any]], Mapping[str, Any]], found)


def architecture_file(name: str) -> Path:
    """The file that states the builder `name`, for people to read."""
    builders = _builders()
    _known("architecture", name, builders)
    return _beside("architectures") / f"{builders[name]}.py"


def title(name: str) -> str:
    """The first line of that file's docstring: the paper's title."""
    text = ast.get_docstring(ast.parse(architecture_file(name).read_bytes())) or ""
    return text.partition("\n")[0]


def cameras() -> tuple[str, ...]:
    """URI schemes that frames can be read from."""
    return _modules(HERE / "device" / "cameras")


def camera(scheme: str) -> ModuleType:
    """The module `edgekit/device/cameras/<scheme>.py`."""
    _known("camera", scheme, cameras())
    return _import(f"edgekit.device.cameras.{scheme}", "camera", f"the camera '{scheme}://'")


def outputs() -> tuple[str, ...]:
    """URI schemes that results can be sent to."""
    return _modules(HERE / "device" / "outputs")


def output(scheme: str) -> ModuleType:
    """The module `edgekit/device/outputs/<scheme>.py`."""
    _known("output", scheme, outputs())
    return _import(f"edgekit.device.outputs.{scheme}", "camera", f"the output '{scheme}://'")


@cache
def _beside(package: str) -> Path:
    """The folder of `package`, which must lie beside `edgekit`, where it was installed.

    `architectures` and `targets` are common words: another folder of that name, earlier on
    Python's path, would be imported in place of ours.
    """
    ours = HERE.parent / package
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise InputError(
            f"the package '{package}' is missing beside {HERE}; "
            "install edgekit again: pip install --force-reinstall edgekit"
        )
    origin = spec.origin or next(iter(spec.submodule_search_locations or ()), "")
    if Path(origin).resolve() not in (ours, ours / "__init__.py"):
        raise InputError(
            f"a stranger was found in the place of edgekit's package '{package}': {origin}; "
            f"ours is {ours}. Python takes the first on its path: "
            "run from another folder, or rename the other one"
        )
    return ours


def _with(half: str) -> tuple[str, ...]:
    folder = _beside("targets")
    return tuple(name for name in backends() if (folder / name / half).is_file())


def _modules(folder: Path) -> tuple[str, ...]:
    return _sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


@cache
def _builders() -> dict[str, str]:
    """Builder name -> module name, by reading `__all__` of each file without importing it."""
    folder = _beside("architectures")
    found: dict[str, str] = {}
    for stem in _modules(folder):
        for name in _stated(folder / f"{stem}.py"):
            if name in found:
                raise SpecError(
                    f"two files state the architecture '{name}': {found[name]}.py and {stem}.py "
                    f"in {folder}; rename one"
                )
            found[name] = stem
    return found


def _stated(path: Path) -> tuple[str, ...]:
    """The literal `__all__` of a Python file."""
    try:
        for node in ast.parse(path.read_bytes(), str(path)).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                return tuple(str(name) for name in ast.literal_eval(node.value))
    except (SyntaxError, ValueError, TypeError) as cause:
        raise SpecError(f"{path} cannot be listed: {cause}") from cause
    raise SpecError(f"{path} has no `__all__`; it must state the names of its builder functions")


def _import(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a plug-in; a framework that is missing or broken becomes one clear error."""
    try:
        return importlib.import_module(module)
    except ImportError as cause:
        package = (cause.name or "").partition(".")[0]
        if package in OURS:
            raise  # our own file is at fault, which no package would mend
        if isinstance(cause, ModuleNotFoundError):
            raise MissingPackage(package, extra, purpose) from cause
        raise EdgekitError(
            f"{purpose} needs the package '{package}', which is installed but does not load: "
            f"{cause}; try: pip install --force-reinstall 'edgekit[{extra}]'"
        ) from cause


def _known(kind: str, name: str, names: Iterable[str]) -> None:
    if name not in names:
        raise UnknownName(kind, name, names)


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names))
