import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit import plugins
from edgekit.errors import (
    EdgekitError,
    InputError,
    MissingPackage,
    SpecError,
    UnknownName,
)

BUILDER = '"""A network."""\n__all__ = ("{name}",)\ndef {name}(): return "{name}"\n'


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installation of its own: `edgekit`, `architectures` and `targets` side by side."""
    for name in ("edgekit/device/cameras", "architectures", "targets"):
        (tmp_path / name).mkdir(parents=True)
    for cached in (plugins._beside, plugins._builders):
        cached.cache_clear()
    monkeypatch.setattr(plugins, "HERE", tmp_path / "edgekit")
    monkeypatch.setattr(plugins, "_beside", lambda package: tmp_path / package)
    yield tmp_path
    plugins._builders.cache_clear()


def put(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("name", plugins.targets())
def test_every_target_is_readable_and_has_its_backend(name: str) -> None:
    target = plugins.target(name)
    assert target.name == name
    assert target.backend in plugins.backends()
    assert target.camera.partition("://")[0] in plugins.cameras()


@pytest.mark.parametrize("name", plugins.architectures())
def test_every_architecture_has_a_title_and_a_file(name: str) -> None:
    assert plugins.title(name)
    assert plugins.architecture_file(name).is_file()


def test_listing_loads_no_framework() -> None:
    program = (
        "import sys; from edgekit import plugins\n"
        "assert plugins.architectures() and plugins.targets() and plugins.backends()\n"
        "[plugins.target(name) for name in plugins.targets()]\n"
        "heavy = {'torch', 'cv2', 'onnxruntime', 'ai_edge_litert', 'architectures.squeezenet'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_unknown_name_lists_the_names_and_suggests() -> None:
    with pytest.raises(UnknownName, match=r"no target 'jetsno' \(did you mean 'jetson'\?\)"):
        plugins.target("jetsno")
    with pytest.raises(UnknownName, match=r"did you mean 'squeezenet1_1'\?\); .*mobilenet_v2, "):
        plugins.architecture("squeezenet_1_1")
    for find in (plugins.compiler, plugins.loader, plugins.camera, plugins.output):
        with pytest.raises(UnknownName, match="there are: "):
            find("nothing_of_the_sort")


@pytest.mark.parametrize("name", ["../secret", "litert/..", "", "linux.toml", "__init__"])
def test_a_name_is_not_a_path(name: str) -> None:
    for find in (plugins.target, plugins.loader, plugins.camera, plugins.architecture):
        with pytest.raises(UnknownName):
            find(name)


def test_a_new_file_is_found_by_its_name(elsewhere: Path) -> None:
    put(elsewhere / "architectures" / "__init__.py")
    put(elsewhere / "architectures" / "small.py", BUILDER.format(name="small_net"))
    put(elsewhere / "edgekit" / "device" / "cameras" / "toy.py")
    put(elsewhere / "edgekit" / "device" / "cameras" / "_shared.py")
    put(elsewhere / "targets" / "toy" / "session.py")
    put(elsewhere / "targets" / "notes" / "readme.txt")
    assert plugins.architectures() == ("small_net",)
    assert plugins.title("small_net") == "A network."
    assert plugins.cameras() == ("toy",)
    assert plugins.outputs() == ()
    assert plugins.backends() == ("toy",)
    with pytest.raises(UnknownName, match="no backend with a compiler 'toy'"):
        plugins.compiler("toy")


def test_two_files_of_one_architecture_are_refused(elsewhere: Path) -> None:
    for stem in ("one", "two"):
        put(elsewhere / "architectures" / f"{stem}.py", BUILDER.format(name="same"))
    with pytest.raises(SpecError, match=r"'same': one\.py and two\.py"):
        plugins.architectures()


@pytest.mark.parametrize(
    ("text", "message"),
    [("x = 1", "has no `__all__`"), ("__all__ = (f(),)", "cannot be"), ("def (", "cannot be")],
)
def test_an_architecture_that_cannot_be_listed_is_named(
    elsewhere: Path, text: str, message: str
) -> None:
    put(elsewhere / "architectures" / "odd.py", text)
    with pytest.raises(SpecError, match=rf"odd\.py {message}"):
        plugins.architectures()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("summary = 1", SpecError, "toy.toml: "),
        ('name = "other"', SpecError, "remove the key 'name'"),
        ("[sesion]", SpecError, "toy.toml"),
        (
            'summary="s"\nbackend="tofu"\nprecision="int8"\nscheme="affine"\ncamera="csi://0"',
            UnknownName,
            r"no backend 'tofu' \(did you mean 'toy'\?\)",
        ),
    ],
)
def test_a_target_file_is_held_to_its_form(
    elsewhere: Path, text: str, error: type[EdgekitError], message: str
) -> None:
    put(elsewhere / "targets" / "toy" / "session.py")
    put(elsewhere / "targets" / "toy.toml", text)
    with pytest.raises(error, match=message):
        plugins.target("toy")


def test_a_missing_framework_names_the_extra(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(text: str) -> None:
        put(elsewhere / "targets" / "toy" / "session.py", text)
        monkeypatch.delitem(sys.modules, "targets.toy.session", raising=False)
        plugins.loader("toy")

    import targets

    monkeypatch.setattr(targets, "__path__", [str(elsewhere / "targets")])
    put(elsewhere / "targets" / "toy" / "__init__.py")
    with pytest.raises(MissingPackage, match=r"'no_such_runtime'.*pip install 'edgekit\[toy\]'"):
        load("import no_such_runtime.interpreter")
    with pytest.raises(EdgekitError, match="installed but does not load: libGL"):
        load("raise ImportError('libGL.so.1: cannot open shared object file', name='cv2')")
    with pytest.raises(ModuleNotFoundError):  # our own mistake is not a missing package
        load("import edgekit.no_such_module")
    monkeypatch.delitem(sys.modules, "targets.toy", raising=False)


def test_a_stranger_in_our_place_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "targets" / "__init__.py")
    put(tmp_path / "architectures" / "net.py")  # without __init__: a namespace package
    ours = str(plugins.HERE.parent)
    for verb, name in (("targets", "targets"), ("architectures", "architectures")):
        program = (
            f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {ours!r}]\n"
            "from edgekit import plugins\n"
            f"try: plugins.{verb}()\n"
            "except Exception as error: print(type(error).__name__, error)"
        )
        answer = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True
        ).stdout
        if name == "architectures":  # a package with __init__ wins over a namespace: ours is found
            assert answer == ""
        else:
            assert answer.startswith("InputError a stranger was found in the place of")
            assert str(tmp_path) in answer


def test_a_package_that_is_gone_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins._beside.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(InputError, match=r"'targets' is missing beside .*; install edgekit again"):
        plugins.targets()
    plugins._beside.cache_clear()


def test_a_converter_is_a_function_of_the_architectures_own_file() -> None:
    pytest.importorskip("torch")
    assert callable(plugins.converter("shufflenet_v2_x0_5", "from_original"))
    with pytest.raises(SpecError, match=r"shufflenet_v2.py has no function 'from_nobody'"):
        plugins.converter("shufflenet_v2_x0_5", "from_nobody")
