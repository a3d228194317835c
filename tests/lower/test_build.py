"""Whole builds, with a fault seeded into the compiler: each must be refused, named and cleaned up.

Faults are put into what the compiler is given, behind the gate's back: to the gate it is a compiler
that lowers wrongly.
"""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx, nn
from torch.export import ExportedProgram

from edgekit import bundle, plugins
from edgekit.bundle import Bundle, Manifest
from edgekit.device.golden import replay
from edgekit.device.session import open_session
from edgekit.errors import BundleError, InputError, ParityError, StorageError, UnknownName
from edgekit.lower import build as building
from edgekit.lower.build import build
from edgekit.lower.network import Network
from edgekit.lower.plan import Request
from edgekit.spec import Artifact, Compile, ModelSpec

aten = torch.ops.aten
Fault = Callable[[fx.GraphModule], None]


def change(layer: str, what: str, how: Callable[[torch.Tensor], torch.Tensor]) -> Fault:
    def fault(module: fx.GraphModule) -> None:
        owner = module.get_submodule(layer)
        value = getattr(owner, what).detach().clone()
        setattr(owner, what, nn.Parameter(how(value).contiguous(), requires_grad=False))

    return fault


def rolled(layer: str) -> Fault:
    """Each output channel gets its neighbour's weights."""
    return change(layer, "weight", lambda value: value.roll(1, 0))


def without_bias(layer: str) -> Fault:
    return change(layer, "bias", torch.zeros_like)


def swap_channels(module: fx.GraphModule) -> None:
    """RGB -> BGR in front of the network."""
    planes = next(node for node in module.graph.nodes if node.target is aten.permute.default)
    with module.graph.inserting_after(planes):
        swapped = module.graph.call_function(aten.flip.default, (planes, [1]))
    planes.replace_all_uses_with(swapped)
    swapped.args = (planes, [1])
    module.recompile()


@pytest.fixture
def seed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Fault], None]:
    """Seeds a fault into every compiler."""
    right = plugins.compiler

    def put(fault: Fault) -> None:
        def compiler(name: str) -> Compile:
            def compile(
                program: Any, spec: ModelSpec, options: Mapping[str, Any], out: Path
            ) -> Artifact:
                return right(name)(faulty(program, spec, fault), spec, options, out)

            return compile

        monkeypatch.setattr(plugins, "compiler", compiler)

    return put


def faulty(program: ExportedProgram, spec: ModelSpec, fault: Fault) -> ExportedProgram:
    module = program.module(check_guards=False)
    fault(module)
    return torch.export.export(module, (torch.zeros(spec.input.shape, dtype=torch.uint8),))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, mixed: Network) -> None:
    """Builds are of the small network."""
    monkeypatch.setattr(building, "load_network", lambda *given: mixed)


def silent(line: str) -> None:
    pass


def refused(tmp_path: Path, request: Request) -> str:
    """The reason; and nothing is left: no bundle, no half of one."""
    out = tmp_path / "builds" / "made"
    out.parent.mkdir()
    with pytest.raises(ParityError) as caught:
        build(dataclasses.replace(request, out=out), silent)
    assert list(out.parent.iterdir()) == []
    return str(caught.value)


ONNX, LITERT = Request("linux"), Request("raspberry-pi")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("precision", "fault", "hop", "layer"),
    [
        ("fp32", swap_channels, "exported -> lowered", "normalise (conv)"),
        ("fp32", without_bias("network.right.0"), "exported -> lowered", "network.right.0 (conv)"),
        ("fp32", rolled("network.narrow.0"), "exported -> lowered", "network.narrow.0 (conv)"),
        ("fp16", rolled("network.stem.0"), "exported -> lowered", "network.stem.0 (conv)"),
        ("int8", swap_channels, "quantised -> lowered", "normalise (conv)"),
        ("int8", rolled("network.project.0"), "quantised -> lowered", "network.project.0 (conv)"),
        (
            "int8",
            rolled("network.classifier.1"),
            "quantised -> lowered",
            "network.classifier.1 (linear)",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) == 4 else "",
)
def test_a_faulty_onnx_compiler_is_caught_at_its_layer(
    tmp_path: Path,
    seed: Callable[[Fault], None],
    precision: str,
    fault: Fault,
    hop: str,
    layer: str,
) -> None:
    seed(fault)
    message = refused(tmp_path, dataclasses.replace(ONNX, precision=precision))
    assert f"the hop '{hop}' fails" in message
    assert f"first diverging layer: {layer}: SNR" in message


@pytest.mark.usefixtures("small")
def test_a_faulty_compiler_for_jetson_is_caught_at_its_layer(
    tmp_path: Path, seed: Callable[[Fault], None]
) -> None:
    seed(rolled("network.project.0"))
    message = refused(tmp_path, Request("jetson", precision="int8"))
    assert "the hop 'quantised -> lowered' fails" in message
    assert "first diverging layer: network.project.0 (conv): SNR" in message


@pytest.mark.slow
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("precision", "fault", "hop", "layer"),
    [
        ("int8", rolled("network.project.0"), "quantised -> lowered", "network.project.0 (conv)"),
        ("fp32", without_bias("network.right.0"), "exported -> lowered", "network.right.0 (conv)"),
    ],
    ids=["int8", "fp32"],
)
def test_a_faulty_litert_compiler_is_caught_at_its_layer(
    tmp_path: Path,
    seed: Callable[[Fault], None],
    precision: str,
    fault: Fault,
    hop: str,
    layer: str,
) -> None:
    seed(fault)
    message = refused(tmp_path, dataclasses.replace(LITERT, precision=precision))
    assert f"the hop '{hop}' fails" in message
    assert f"first diverging layer: {layer}: SNR" in message


@pytest.mark.usefixtures("small")
def test_a_faulty_quantiser_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.lower import prove

    right = prove.quantise

    def wrong(module: fx.GraphModule, *rest: Any) -> ExportedProgram:
        rolled("network.project.0")(module)
        return right(module, *rest)

    monkeypatch.setattr(prove, "quantise", wrong)
    message = refused(tmp_path, dataclasses.replace(ONNX, precision="int8"))
    assert "the hop 'exported -> quantised' fails" in message
    assert "first diverging layer: network.project.0 (conv): SNR" in message


@pytest.mark.usefixtures("small")
def test_a_faulty_export_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.lower import prove

    right = prove.export.export

    def wrong(module: nn.Module, pixels: torch.Tensor) -> ExportedProgram:
        made = right(module, pixels).module(check_guards=False)
        without_bias("network.left.0")(made)
        return torch.export.export(made, (pixels,))

    monkeypatch.setattr(prove.export, "export", wrong)
    message = refused(tmp_path, dataclasses.replace(ONNX, precision="fp32"))
    assert "the hop 'eager -> exported' fails" in message
    assert "first diverging layer: network.left.0: SNR" in message


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "fault",
    [{"fit": "stretch"}, {"crop_fraction": 0.8}, {"interpolation": "area"}],
    ids=lambda fault: next(iter(fault)),
)
def test_another_image_contract_in_the_bundle_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any]
) -> None:
    right = building._manifest

    def wrong(*given: Any) -> Manifest:
        manifest = right(*given)
        return dataclasses.replace(manifest, image=dataclasses.replace(manifest.image, **fault))

    monkeypatch.setattr(building, "_manifest", wrong)
    message = refused(tmp_path, dataclasses.replace(ONNX, precision="fp32"))
    assert "the hop 'lowered -> bundle' fails" in message


@pytest.mark.usefixtures("small")
def test_a_model_of_another_interface_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = plugins.compiler

    def compiler(name: str) -> Compile:
        def compile(
            program: Any, spec: ModelSpec, options: Mapping[str, Any], out: Path
        ) -> Artifact:
            other = dataclasses.replace(spec.output, name="scores")
            return right(name)(program, dataclasses.replace(spec, output=other), options, out)

        return compile

    monkeypatch.setattr(plugins, "compiler", compiler)
    message = refused(tmp_path, dataclasses.replace(ONNX, precision="fp32"))
    assert "scores" in message


@pytest.mark.usefixtures("small")
def test_what_was_there_stays_when_a_forced_build_is_refused(
    tmp_path: Path, seed: Callable[[Fault], None], make_bundle: Callable[[Path], Path]
) -> None:
    out = make_bundle(tmp_path / "made")
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    seed(swap_channels)
    with pytest.raises(ParityError):
        build(Request("linux", precision="fp32", out=out, force=True), silent)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.usefixtures("small")
def test_a_full_disk_while_compiling_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile(*given: Any) -> Artifact:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(plugins, "compiler", lambda name: compile)
    with pytest.raises(StorageError, match="the disk is full"):
        build(Request("linux", precision="fp32", out=tmp_path / "made"), silent)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small")
def test_an_interrupted_build_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile(program: Any, spec: Any, options: Any, out: Path) -> Artifact:
        (out / "model.onnx").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(plugins, "compiler", lambda name: compile)
    with pytest.raises(KeyboardInterrupt):
        build(Request("linux", precision="fp32", out=tmp_path / "made"), silent)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("request_", "kind", "says"),
    [
        (Request("rasberry-pi"), UnknownName, "did you mean 'raspberry-pi'"),
        (Request("linux", backend="lite-rt"), UnknownName, "did you mean 'litert'"),
        (Request("linux", precision="int4"), UnknownName, "did you mean 'int8'"),
        (Request("linux", calibration=Path("nowhere")), InputError, "nowhere is not a folder"),
    ],
    ids=["target", "backend", "precision", "calibration"],
)
def test_what_cannot_be_used_is_said(
    tmp_path: Path, request_: Request, kind: type[InputError], says: str
) -> None:
    with pytest.raises(kind) as caught:
        build(dataclasses.replace(request_, out=tmp_path / "made"), silent)
    assert says in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The carried checkpoint for Linux, int8; not to be changed."""
    out = tmp_path_factory.mktemp("carried") / "made"
    return build(Request("linux", out=out), silent)


def test_the_carried_checkpoint_is_proven_hop_by_hop(carried: Bundle) -> None:
    manifest = carried.manifest
    assert [hop.name for hop in manifest.parity] == [
        "eager -> exported",
        "exported -> quantised",
        "quantised -> lowered",
        "lowered -> bundle",
    ]
    exported, quantised, lowered, read = (hop.snr_db for hop in manifest.parity)
    assert exported > 90
    assert quantised > 22
    assert lowered > 22
    assert read == 200
    assert all(hop.images == 48 for hop in manifest.parity)
    assert (manifest.target, manifest.backend, manifest.precision) == ("linux", "onnx", "int8")
    assert manifest.provenance.calibration_images >= 32
    assert len(manifest.golden) == 4


def test_the_bundle_replays_its_golden_frames(carried: Bundle) -> None:
    with closing(open_session(bundle.read(carried.path))) as session:
        result = replay(carried, session)
    assert result.failures == ()
    assert len(result.cases) == 4
    frames = [np.load(carried.path / golden.input) for golden in carried.manifest.golden]
    assert len({frame.tobytes() for frame in frames}) == 4


def test_nothing_of_the_build_machine_is_in_the_bundle(carried: Bundle, root: Path) -> None:
    private = [str(root).encode(), str(Path.home()).encode() + b"/", b"site-packages"]
    private += [str(carried.path.parent).encode(), os.uname().nodename.encode()]
    for path in carried.path.rglob("*"):
        if path.is_file() and path.name != "report.json":
            content = path.read_bytes()
            assert not [text for text in private if len(text) > 3 and text in content], path


def test_swapped_colours_are_refused_for_the_carried_checkpoint(
    tmp_path: Path, seed: Callable[[Fault], None]
) -> None:
    seed(swap_channels)
    message = refused(tmp_path, ONNX)
    assert "the hop 'quantised -> lowered' fails" in message
    assert "first diverging layer: normalise (conv)" in message


def test_an_existing_folder_is_kept_without_force(carried: Bundle) -> None:
    with pytest.raises((InputError, BundleError), match="--force"):
        build(Request("linux", out=carried.path), silent)
    assert bundle.read(carried.path) == carried


def built_elsewhere(out: Path, *arguments: str) -> Path:
    """Build in a process of its own, with other hashes."""
    command = "import sys; from edgekit.cli.main import main; sys.exit(main())"
    subprocess.run(
        [sys.executable, "-c", command, "build", *arguments, "-o", str(out)],
        env=os.environ | {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    return out


def contents(folder: Path) -> dict[str, bytes]:
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "report.json"
    }
    assert "manifest.json" in found
    return found


def differing(one: Mapping[str, bytes], two: Mapping[str, bytes]) -> list[str]:
    return sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))


def test_two_processes_build_the_same_bytes(carried: Bundle, tmp_path: Path) -> None:
    other = built_elsewhere(tmp_path / "made", "--target", "linux")
    assert differing(contents(carried.path), contents(other)) == []


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_two_processes_build_the_same_litert_bytes(tmp_path: Path, precision: str) -> None:
    arguments = ("--target", "raspberry-pi", "--precision", precision)
    one = built_elsewhere(tmp_path / "one", *arguments)
    two = build(Request("raspberry-pi", precision=precision, out=tmp_path / "two"), silent)
    assert differing(contents(one), contents(two.path)) == []
