"""What only ExecuTorch's compiler does: what it hands to XNNPACK, and in which form."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from edgekit.errors import SpecError
from edgekit.lower import export
from edgekit.lower.gate import taps
from edgekit.lower.network import Network
from edgekit.spec import Session, SessionOptions
from targets.executorch import delegation, front, half, padding
from targets.executorch.compiler import compile
from targets.executorch.operators import operators
from targets.executorch.session import load

Lower = Callable[..., Any]
aten = torch.ops.aten
quantized = torch.ops.quantized_decomposed

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class Camera(nn.Module):
    """Pixels -> a convolution -> its mean, which drops height and width."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, image: Tensor) -> Tensor:
        planes: Tensor = self.conv(image.permute(0, 3, 1, 2).float())
        return (planes.relu() * 2.0).mean((2, 3))


PIXELS = torch.randint(0, 256, (1, 8, 8, 3), dtype=torch.uint8)


def exported() -> fx.GraphModule:
    return torch.export.export(Camera().eval(), (PIXELS,)).module(check_guards=False)


def kinds(module: fx.GraphModule) -> list[object]:
    return [node.target for node in module.graph.nodes if node.op == "call_function"]


def test_pixels_are_cast_before_they_are_moved() -> None:
    module = exported()
    expected = module(PIXELS)
    front.cast_first(module)
    assert kinds(module)[:2] == [aten.to.dtype, aten.permute.default]
    torch.testing.assert_close(module(PIXELS), expected, rtol=0, atol=0)


def test_quantised_pixels_are_moved_as_integers() -> None:
    module = exported()
    (cast,) = (n for n in module.graph.nodes if n.target is aten.to.dtype)
    pair = (quantized.quantize_per_tensor.default, quantized.dequantize_per_tensor.default)
    last = cast
    for target in pair:
        with module.graph.inserting_after(last):
            args = (1.0, -128, -128, 127, torch.int8)
            made = module.graph.call_function(target, (last, *args))
        last.replace_all_uses_with(made, delete_user_cb=lambda user, made=made: user is not made)
        last = made
    module.recompile()
    expected = module(PIXELS)
    front.cast_first(module)
    assert kinds(module)[:6] == [aten.to.dtype, *pair, aten.permute.default, *pair]
    torch.testing.assert_close(module(PIXELS), expected, rtol=0, atol=0)


class Padded(nn.Module):
    """A convolution behind padding, with a scale as quantisation leaves it or without."""

    def __init__(self, amounts: list[int], value: float, scale: float | None, other: float = 0):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=(0, 1))
        self.amounts, self.value, self.scale, self.other = amounts, value, scale, other

    def pair(self, x: Tensor, scale: float) -> Tensor:
        args = (scale, 3, -128, 127, torch.int8)
        integers = quantized.quantize_per_tensor.default(x, *args)
        real: Tensor = quantized.dequantize_per_tensor.default(integers, *args)
        return real

    def forward(self, x: Tensor) -> Tensor:
        if self.scale is not None:
            x = self.pair(x, self.scale)
        x = nn.functional.pad(x, self.amounts, value=self.value)
        if self.scale is not None:
            x = self.pair(x, self.other or self.scale)
        planes: Tensor = self.conv(x)
        return planes


@pytest.mark.parametrize(
    ("network", "folded"),
    [
        (Padded([1, 1, 2, 2], 0, None), True),
        (Padded([1, 1, 2, 2], 0, 0.05), True),
        (Padded([0, 1, 0, 1], 0, 0.05), False),
        (Padded([1, 1, 2, 2], 1, 0.05), False),
        (Padded([1, 1, 2, 2], 0, 0.05, 0.06), False),
    ],
    ids=["float", "int8", "one side", "ones", "another scale"],
)
def test_padding_is_folded_where_that_is_exact(network: nn.Module, folded: bool) -> None:
    x = torch.randn(1, 3, 9, 9)
    module = torch.export.export(network.eval(), (x,)).module(check_guards=False)
    expected = module(x)
    padding.fold(module)
    assert (aten.pad.default not in kinds(module)) is folded
    torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-6)


def test_a_mean_keeps_its_axes_until_a_view() -> None:
    module = exported()
    expected = module(PIXELS)
    front.keep_axes(module)
    assert kinds(module)[-2:] == [aten.mean.dim, aten.view.default]
    torch.testing.assert_close(module(PIXELS), expected, rtol=0, atol=0)


@pytest.mark.parametrize("gate", [nn.Hardsigmoid(), nn.SiLU()], ids=["hard sigmoid", "silu"])
def test_gates_are_spelt_in_what_xnnpack_has(gate: nn.Module) -> None:
    x = torch.linspace(-8, 8, 401)
    module = torch.export.export(gate, (x,)).module(check_guards=False)
    expected = module(x)
    front.spell_gates(module)
    has = {aten.add.Tensor, aten.hardtanh.default, aten.div.Tensor}
    assert set(kinds(module)) in (has, {aten.sigmoid.default, aten.mul.Tensor})
    torch.testing.assert_close(module(x), expected, rtol=1e-6, atol=1e-7)


def test_half_is_throughout_but_for_the_logits() -> None:
    module = exported()
    expected = module(PIXELS)
    half.halve(module)
    found = module(PIXELS)
    assert {p.dtype for p in module.parameters()} == {torch.float16}
    assert found.dtype == torch.float32
    assert torch.equal(found, found.half().float())
    assert not [n for n in module.graph.nodes if n.target is aten.mul.Tensor and 2.0 in n.args]
    torch.testing.assert_close(found, expected, rtol=5e-3, atol=5e-2)


def test_core_mls_partitioner_is_refused_where_it_cannot_be_proven(
    networks: dict[str, Network], tmp_path: Path
) -> None:
    network = networks["squeezenet1_1"]
    spec = export.model_spec(network, "fp16", "affine")
    program = torch.export.export(Camera().eval(), (PIXELS,))
    with pytest.raises(SpecError, match="build on macOS, or take partitioner = 'xnnpack'"):
        compile(program, spec, {"partitioner": "coreml"}, tmp_path)
    with pytest.raises(SpecError, match="valid is partitioner = 'xnnpack' or 'coreml'"):
        compile(program, spec, {"partitioner": "gpu"}, tmp_path)


def test_reasons_are_those_of_the_partitioner() -> None:
    import logging

    node = next(n for n in exported().graph.nodes if n.name == "image")

    class Refusal:  # as executorch.exir.backend.utils.WhyNoPartition logs itself
        reason = "too odd"

        def __init__(self, about: fx.Node) -> None:
            self.node = about

    logger = logging.getLogger("executorch.backends.xnnpack.partition")
    with delegation.reasons() as found:
        logger.debug(Refusal(node))
        logger.debug("something else")
    logger.debug(Refusal(node))
    assert found == {"image": "too odd"}


@pytest.mark.slow
def test_xnnpack_takes_all_but_the_casts(lower: Lower) -> None:
    for precision, casts in (("fp32", 1), ("fp16", 2), ("int8", 1)):
        counts = operators(lower("executorch", "squeezenet1_1", precision).model)
        left = {name: n for name, n in counts.items() if not name.startswith("XNNPACK.")}
        assert left == {"dim_order_ops::_to_dim_order_copy.out": casts}
        assert counts["XNNPACK.Conv2d"] == 26
        assert counts["XNNPACK.GlobalAvgPooling2d"] == 1


@pytest.mark.slow
def test_every_layer_can_be_tapped_and_is_torchs_own(lower: Lower) -> None:
    """Maps in int8 come out, and with every integer as torch has it."""
    made = lower("executorch", "squeezenet1_1", "int8")

    def again(wide: ExportedProgram, folder: Path) -> Session:
        artifact = compile(wide, made.spec, {}, folder)
        assert "in 1 partition;" in artifact.notes[0]
        return load(artifact.model, SessionOptions())

    pixels = torch.from_numpy(made.inputs[0])
    found = taps.lowered_layers(made.program, pixels, again, made.inputs[:2])
    expected = taps.graph_layers(made.program, made.inputs[:2])
    assert found.keys() == expected.keys()
    assert len(found) > 30
    for name, value in expected.items():
        steps = (found[name] != value).mean()
        assert steps < 0.01, name


BUILD = """
import sys, pathlib, torch
from torch import nn
from edgekit.lower import export
from edgekit.lower.int8.quantise import quantise
from edgekit.lower.network import Network, CameraInput
from edgekit.spec import ImageSpec
from edgekit import plugins

torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 5, 3),
                    nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
network = Network("net", net, ImageSpec(32, 32), tuple("abcde"), {}, "")
pixels = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
program = export.export(export.with_camera_input(network), pixels)
for precision in ("fp32", "fp16", "int8"):
    if precision == "int8":
        program = quantise(program.module(check_guards=False), [pixels], "affine")
    spec = export.model_spec(network, precision, "affine")
    for backend in ("executorch", "openvino"):
        out = pathlib.Path(sys.argv[1], f"{backend}-{precision}")
        out.mkdir()
        plugins.compiler(backend)(program, spec, {}, out)
"""


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(tmp_path: Path, root: Path) -> None:
    found = []
    for seed in ("1", "2"):
        out = tmp_path / seed
        out.mkdir()
        subprocess.run(
            [sys.executable, "-c", BUILD, str(out)], check=True, capture_output=True, cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        found.append({p.relative_to(out): p.read_bytes() for p in out.rglob("model.*")})
    assert len(found[0]) == 6
    assert found[0] == found[1]
