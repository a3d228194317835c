"""Whole builds, with a fault seeded into the compiler: each must be refused, named and cleaned up.

Faults are put into what the compiler is given, behind the gate's back: to the gate it is a compiler
that lowers wrongly.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import fx, nn
from torch.export import ExportedProgram

from edgekit import plugins
from edgekit.errors import ParityError, StorageError
from edgekit.lower import build as building
from edgekit.lower import export, prepare
from edgekit.lower.build import build
from edgekit.lower.gate.parity import HopError
from edgekit.lower.int8.quantise import quantise
from edgekit.lower.network import Network
from edgekit.lower.plan import Request
from edgekit.manifest import Manifest
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
def small(monkeypatch: pytest.MonkeyPatch, mixed_whole: Network) -> None:
    """Builds are of the small network."""
    monkeypatch.setattr(building, "load_network", lambda *given: mixed_whole)


def silent(line: str) -> None:
    pass


def refused(tmp_path: Path, request: Request) -> str:
    """The reason; and nothing is left, no bundle, no half of one, but the layers as a picture."""
    out = tmp_path / "builds" / "made"
    out.parent.mkdir()
    with pytest.raises(ParityError) as caught:
        build(dataclasses.replace(request, out=out), silent)
    drawn = isinstance(caught.value, HopError) and caught.value.layers
    left = [out.with_name("made.parity.html")] if drawn else []
    assert list(out.parent.iterdir()) == left
    assert all(str(path) in str(caught.value) for path in left)
    return str(caught.value)


def assert_located(message: str, hop: str, layer: str) -> None:
    assert f"the hop '{hop}' fails" in message
    assert f"first diverging layer: {layer}: SNR" in message


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
    assert_located(message, hop, layer)


@pytest.mark.usefixtures("small")
def test_a_faulty_compiler_for_jetson_is_caught_at_its_layer(
    tmp_path: Path, seed: Callable[[Fault], None]
) -> None:
    seed(rolled("network.project.0"))
    message = refused(tmp_path, Request("jetson", precision="int8"))
    assert_located(message, "quantised -> lowered", "network.project.0 (conv)")


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
    assert_located(message, hop, layer)


@pytest.mark.usefixtures("small")
def test_a_faulty_quantiser_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = quantise

    def wrong(module: fx.GraphModule, *rest: Any) -> ExportedProgram:
        rolled("network.project.0")(module)
        return right(module, *rest)

    monkeypatch.setattr(prepare, "quantise", wrong)
    message = refused(tmp_path, dataclasses.replace(ONNX, precision="int8"))
    assert_located(message, "exported -> quantised", "network.project.0 (conv)")


@pytest.mark.usefixtures("small")
def test_a_faulty_export_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = export.export

    def wrong(module: nn.Module, pixels: torch.Tensor) -> ExportedProgram:
        made = right(module, pixels).module(check_guards=False)
        without_bias("network.left.0")(made)
        return torch.export.export(made, (pixels,))

    monkeypatch.setattr(export, "export", wrong)
    message = refused(tmp_path, dataclasses.replace(ONNX, precision="fp32"))
    assert_located(message, "folded -> exported", "network.left.0")


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
    assert "the hop 'lowered -> packaged' fails" in message


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
    assert sorted(tmp_path.iterdir()) == [out, tmp_path / "made.parity.html"]


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


def test_swapped_colours_are_refused_for_the_carried_checkpoint(
    tmp_path: Path, seed: Callable[[Fault], None]
) -> None:
    seed(swap_channels)
    message = refused(tmp_path, ONNX)
    assert "the hop 'quantised -> lowered' fails" in message
    assert "first diverging layer: normalise (conv)" in message
