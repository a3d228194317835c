"""Every fault that a conversion is known to make, seeded where it is made: hop and layer are named.

Faults behind the export are put into the program that a compiler is given; to the gate it is a
compiler that lowers wrongly. The quick tests run such a program by torch, in the place of a model
file; the slow ones by the compilers and runtimes themselves.
"""

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgekit.device import golden
from edgekit.device.image import prepare
from edgekit.device.session import open_session
from edgekit.errors import ParityError
from edgekit.lower import build as building
from edgekit.lower import calibrate, export, network
from edgekit.lower.build import build
from edgekit.lower.calibrate import Images
from edgekit.lower.gate import edges, packaged, parity
from edgekit.lower.load import load_network
from edgekit.lower.network import CameraInput, Network
from edgekit.lower.plan import Plan, Request, make_plan
from edgekit.lower.prepare import prepare as prepare_program
from edgekit.lower.prove import Proof, prove
from edgekit.lower.prove import lower as lower_program
from edgekit.lower.untrained import settle
from edgekit.manifest import Hop
from edgekit.spec import Artifact, Fill, ImageSpec, ModelSpec, TensorSpec

aten, quantized = torch.ops.aten, torch.ops.quantized_decomposed
Fault = Callable[[fx.GraphModule], None]
IMAGE = ImageSpec(32, 32)


class Groups(nn.Module):
    """Strided, grouped and depthwise convolutions, a channel shuffle: (N, 3, H, W) -> (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU())
        self.spread = nn.Sequential(nn.Conv2d(12, 24, 1, groups=3), nn.BatchNorm2d(24), nn.ReLU())
        self.depthwise = nn.Conv2d(24, 24, 3, 2, 1, groups=24)
        self.gather = nn.Conv2d(24, 12, 1, groups=3)
        self.classifier = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.spread(self.stem(x))
        n, c, h, w = x.shape
        x = x.view(n, 3, c // 3, h, w).transpose(1, 2).reshape(n, c, h, w)
        x = self.gather(torch.relu(self.depthwise(x)))
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits


@pytest.fixture(scope="module")
def groups() -> Network:
    torch.manual_seed(0)
    module = settle(Groups(), IMAGE)
    nn.init.normal_(module.get_parameter("classifier.weight"), 0, 1)
    return Network("groups", module, IMAGE, tuple("abcdefghij"), {}, "")


@dataclasses.dataclass
class TorchSession:
    """A program run by torch in the place of a runtime."""

    module: nn.Module
    outputs: tuple[TensorSpec, ...]
    inputs: tuple[TensorSpec, ...]
    notes: tuple[str, ...] = ()

    def run(self, fill: Fill) -> Mapping[str, np.ndarray]:
        pixels = np.zeros(self.inputs[0].shape, np.uint8)
        fill({"image": pixels})
        with torch.inference_mode():
            found = self.module(torch.from_numpy(pixels))
        found = found if isinstance(found, (list, tuple)) else [found]
        names = ["logits", *(f"logits_{n}" for n in range(1, len(found)))]
        return {name: value.numpy().copy() for name, value in zip(names, found, strict=True)}

    def close(self) -> None:
        pass


def by_torch(precision: str, fault: Fault) -> Plan:
    """A plan whose compiler puts `fault` into the program, and whose runtime is torch."""
    made: dict[str, TorchSession] = {}

    def compile(program: Any, spec: ModelSpec, options: Any, out: Path) -> Artifact:
        module = program.module(check_guards=False)
        fault(module)
        made[str(out)] = TorchSession(module, (spec.output,), (spec.input,))
        return Artifact(out)

    plan = make_plan(Request("linux", precision=precision))
    return dataclasses.replace(plan, compile=compile, load=lambda model, _options: made[str(model)])


def by_the_runtime(target: str, precision: str, fault: Fault) -> Plan:
    """A target's own plan, but for the fault in what its compiler is given."""
    plan = make_plan(Request(target, precision=precision))

    def compile(program: Any, spec: ModelSpec, options: Any, out: Path) -> Artifact:
        module = program.module(check_guards=False)
        fault(module)
        sample = torch.zeros(spec.input.shape, dtype=torch.uint8)
        return plan.compile(torch.export.export(module, (sample,)), spec, options, out)

    return dataclasses.replace(plan, compile=compile)


def nothing(module: fx.GraphModule) -> None:
    pass


def silent(line: str) -> None:
    pass


def set_value(module: fx.GraphModule, name: str, value: Tensor) -> None:
    owner, _, what = name.rpartition(".")
    setattr(module.get_submodule(owner), what, nn.Parameter(value.contiguous(), False))


def without_normalisation(module: fx.GraphModule) -> None:
    """Pixels of 0 to 1, as of a network that wants nothing else."""
    set_value(module, "normalise.weight", torch.full((3, 1, 1, 1), 1 / 255))
    set_value(module, "normalise.bias", torch.zeros(3))


def normalised_twice(module: fx.GraphModule) -> None:
    weight, bias = (module.get_parameter(f"normalise.{w}").detach() for w in ("weight", "bias"))
    set_value(module, "normalise.weight", weight * weight * 255)
    set_value(module, "normalise.bias", bias * weight.flatten() * 255 + bias)


def without_bias(layer: str) -> Fault:
    def fault(module: fx.GraphModule) -> None:
        set_value(module, f"{layer}.bias", module.get_parameter(f"{layer}.bias").detach() * 0)

    return fault


def after(module: fx.GraphModule, node: fx.Node, target: Any, *arguments: Any) -> None:
    """Put an operator behind `node`."""
    with module.graph.inserting_after(node):
        new = module.graph.call_function(target, (node, *arguments))
    node.replace_all_uses_with(new)
    new.args = (node, *arguments)
    module.recompile()


def first(module: fx.GraphModule, *targets: Any) -> fx.Node:
    found: fx.Node = next(node for node in module.graph.nodes if node.target in targets)
    return found


def swapped_channels(module: fx.GraphModule) -> None:
    """RGB -> BGR."""
    after(module, first(module, aten.permute.default), aten.flip.default, [1])


def taken_for_planes(module: fx.GraphModule) -> None:
    """(1, H, W, 3) read as if it were (1, 3, H, W)."""
    node = first(module, aten.permute.default)
    height, width = node.args[0].meta["val"].shape[1:3]  # type: ignore[union-attr]
    node.target, node.args = aten.reshape.default, (node.args[0], [1, 3, height, width])
    module.recompile()


def padded_on_one_side(module: fx.GraphModule) -> None:
    """Stride 2: TensorFlow's SAME pads below and to the right alone, PyTorch all round."""
    pads = [n for n in module.graph.nodes if n.target is aten.pad.default]
    convs = [n for n in module.graph.nodes if n.target is aten.conv2d.default]
    if pads:  # in an int8 program padding is an operator of its own
        pads[0].args = (pads[0].args[0], [0, 2, 0, 2], *pads[0].args[2:])
    else:
        conv = next(node for node in convs if list(node.args[3]) == [2, 2])
        source = conv.args[0]
        with module.graph.inserting_before(conv):
            padded = module.graph.call_function(aten.pad.default, (source, [0, 1, 0, 1]))
        conv.args = (padded, *conv.args[1:4], [0, 0], *conv.args[5:])
    module.recompile()


def groups_the_other_way(module: fx.GraphModule) -> None:
    """The channel shuffle of 8 groups of 3 instead of 3 groups of 8."""
    node = first(module, aten.channel_shuffle.default)
    node.args = (node.args[0], 8)
    module.recompile()


def another_zero_point(layer: str) -> Fault:
    """What a layer gives is stored with another zero point: a half of its range is cut off."""

    def fault(module: fx.GraphModule) -> None:
        found = {x.name: x.node for x in export.layers(module.graph)}
        node: Any = next(found[name] for name in found if name.startswith(layer))
        assert node.target is quantized.dequantize_per_tensor.default
        for each in (node, node.args[0]):
            each.args = (*each.args[:2], 0 if each.args[2] < -64 else -128, *each.args[3:])
        module.recompile()

    return fault


LOWERED: list[tuple[str, Fault, str, str]] = [
    ("channels swapped", swapped_channels, "fp32", "normalise (conv)"),
    ("normalisation missing", without_normalisation, "fp32", "normalise (conv)"),
    ("normalisation doubled", normalised_twice, "fp32", "normalise (conv)"),
    ("NHWC for NCHW", taken_for_planes, "fp32", "normalise (conv)"),
    ("wrong padding", padded_on_one_side, "fp32", "network.stem.0 (conv)"),
    ("groups shuffled", groups_the_other_way, "fp32", "channel shuffle"),
    ("bias dropped", without_bias("network.gather"), "fp32", "network.gather (conv)"),
    ("wrong padding", padded_on_one_side, "int8", "network.stem.0 (conv)"),
    ("groups shuffled", groups_the_other_way, "int8", "channel shuffle"),
    ("bias dropped", without_bias("network.gather"), "int8", "network.gather (conv)"),
    ("wrong zero point", another_zero_point("network.spread.0"), "int8", "network.spread.0 (conv)"),
]
HOP = {"fp32": "exported -> lowered", "int8": "quantised -> lowered"}
NAMES = [f"{name}, {precision}" for name, _, precision, _ in LOWERED]
TWICE = ("groups shuffled, int8", "bias dropped, int8")
"""Also done by the runtimes themselves, below."""


class Ready:
    """A network after the hops in torch, kept to be lowered wrongly."""

    def __init__(self, given: Network, precision: str, images: Images) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parity, "IMAGES", 6)
            self.prepared = prepare_program(by_torch(precision, nothing), given, images, silent)

    def lower(self, plan: Plan, folder: Path) -> None:
        """The hop to a runtime."""
        lower_program(self.prepared, plan, folder, silent)


@pytest.fixture(scope="module")
def ready(groups: Network, images: Images) -> Mapping[str, Ready]:
    """By precision."""
    return {precision: Ready(groups, precision, images) for precision in HOP}


def assert_refused(refused: pytest.ExceptionInfo[ParityError], hop: str, layer: str) -> None:
    assert f"the hop '{hop}' fails" in str(refused.value)
    where = str(refused.value).partition("first diverging layer: ")[2].partition(":")[0]
    assert layer in where


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_without_a_fault_nothing_is_refused(
    ready: Mapping[str, Ready], precision: str, tmp_path: Path
) -> None:
    ready[precision].lower(by_torch(precision, nothing), tmp_path)


@pytest.mark.parametrize(
    ("_name", "fault", "precision", "layer"),
    [
        pytest.param(*case, marks=[pytest.mark.slow] if name in TWICE else [], id=name)
        for case, name in zip(LOWERED, NAMES, strict=True)
    ],
)
def test_a_fault_of_a_compiler_is_refused(
    ready: Mapping[str, Ready], _name: str, fault: Fault, precision: str, layer: str, tmp_path: Path
) -> None:
    with pytest.raises(ParityError) as refused:
        ready[precision].lower(by_torch(precision, fault), tmp_path)
    assert_refused(refused, HOP[precision], layer)


RUNTIMES = [
    ("linux", "fp32", "normalisation doubled"),
    ("linux", "int8", "NHWC for NCHW"),
    ("linux", "int8", "wrong zero point"),
    ("raspberry-pi", "fp32", "wrong padding"),
    ("raspberry-pi", "fp32", "groups shuffled"),
    ("raspberry-pi", "int8", "bias dropped"),
    ("raspberry-pi", "int8", "wrong zero point"),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("target", "precision", "name"), RUNTIMES)
def test_a_fault_is_refused_on_the_runtime_itself(
    ready: Mapping[str, Ready], target: str, precision: str, name: str, tmp_path: Path
) -> None:
    _, fault, _, layer = next(found for found in LOWERED if found[0] == name)
    with pytest.raises(ParityError) as refused:
        ready[precision].lower(by_the_runtime(target, precision, fault), tmp_path)
    assert_refused(refused, HOP[precision], layer)


@pytest.fixture(scope="module")
def real(shared: Path) -> Mapping[str, Ready]:
    """MobileNetV2 with its published weights, on 96x96, by precision."""
    image = ImageSpec(96, 96)
    weights = shared / "weights" / "mobilenet_v2_imagenet.safetensors"
    network = load_network("mobilenet_v2", str(weights), image=image)
    photographs = calibrate.from_folder(shared / "images" / "fullsize", image, 32)
    return {precision: Ready(network, precision, photographs) for precision in HOP}


REAL: list[tuple[str, Fault, str, str]] = [
    (
        "bias dropped",
        without_bias("network.features.9.conv.2"),
        "fp32",
        "network.features.9.conv.2",
    ),
    ("wrong padding", padded_on_one_side, "int8", "network.features.0.0 (conv)"),
    (
        "wrong zero point",
        another_zero_point("network.features.3.conv.0.0"),
        "int8",
        "network.features.3.conv.0.0",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("_name", "fault", "precision", "layer"), REAL, ids=[r[0] for r in REAL])
def test_a_fault_is_refused_with_real_weights(
    real: Mapping[str, Ready], _name: str, fault: Fault, precision: str, layer: str, tmp_path: Path
) -> None:
    with pytest.raises(ParityError) as refused:
        real[precision].lower(by_the_runtime("linux", precision, fault), tmp_path)
    assert_refused(refused, HOP[precision], layer)


@pytest.mark.slow
def test_fp16_that_overflows_is_refused_at_its_layer(
    groups: Network, images: Images, tmp_path: Path
) -> None:
    """The same network, its activations times 1e5 between two layers: nothing to float32."""
    module = network.fold_batch_norm(settle(Groups(), IMAGE))
    with torch.no_grad():
        for name, factor in (("stem.0", 1e5), ("spread.0", 1e-5)):
            module.get_parameter(f"{name}.weight").mul_(factor)
        module.get_parameter("stem.0.bias").mul_(1e5)
    large = Ready(dataclasses.replace(groups, module=module), "fp16", images)
    with pytest.raises(ParityError) as refused:
        large.lower(by_the_runtime("linux", "fp16", nothing), tmp_path)
    assert_refused(refused, "exported -> lowered", "network.stem.0 (conv)")
    assert "SNR -200.0 dB" in str(refused.value)


def whole(given: Network, images: Images, tmp_path: Path) -> Proof:
    few = images.first(6)
    return prove(by_torch("fp32", nothing), given, few, tmp_path, silent)


def epsilon(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Module:
    """Keras's 1e-3 for PyTorch's 1e-5."""
    norm.eps = 1e-3
    return fuse(conv, norm)


def stale(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Module:
    """Statistics from before training ended."""
    assert norm.running_mean is not None
    norm.running_mean.mul_(0.9)
    return fuse(conv, norm)


def dropped(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Module:
    """The convolution had a bias of its own."""
    conv.bias = None
    return fuse(conv, norm)


fuse = fuse_conv_bn_eval


@pytest.mark.parametrize("fault", [epsilon, stale, dropped])
def test_a_fault_in_folding_is_refused(
    groups: Network, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    monkeypatch.setattr(network, "fuse_conv_bn_eval", fault)
    with pytest.raises(ParityError) as refused:
        whole(groups, images, tmp_path)
    assert_refused(refused, "eager -> folded", "network.stem.0")


class Reused(nn.Module):
    """Cannot be traced by symbols, and uses a convolution without the batch norm after it."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))
        self.head = nn.Linear(3, 10)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] != 1 or x.min() is None:
            raise ValueError("one image at a time")
        logits: Tensor = self.head((self.block(x) + self.block[0](x)).mean((2, 3)))
        return logits


def test_folding_where_nothing_could_be_traced_is_proven_too(
    groups: Network, images: Images, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    module = Reused().eval()
    nn.init.constant_(module.get_parameter("block.1.weight"), 3.0)
    with pytest.raises(ParityError) as refused:
        whole(dataclasses.replace(groups, module=module), images, tmp_path)
    assert_refused(refused, "eager -> folded", "network.block.0")


@pytest.mark.parametrize("fault", [without_normalisation, normalised_twice])
def test_a_fault_in_the_camera_input_is_refused(
    groups: Network, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    def wrong(given: Network) -> CameraInput:
        module = CameraInput(given.module, given.image)
        fault(module)
        return module

    monkeypatch.setattr(export, "with_camera_input", wrong)
    with pytest.raises(ParityError) as refused:
        whole(groups, images, tmp_path)
    assert_refused(refused, "eager -> folded", "normalise")


def test_a_fault_in_the_quantiser_is_refused_on_the_edge_set_alone(
    groups: Network, images: Images, tmp_path: Path
) -> None:
    """Real images hold; what is white all over does not."""

    def dim(module: fx.GraphModule) -> None:
        node = first(module, aten.permute.default)
        after(module, node, aten.clamp.default, 0, 254)

    plain = Images(images.frames, tuple(np.minimum(x, 250) for x in images.inputs), "dim")
    ready = Ready(groups, "fp32", plain)
    with pytest.raises(ParityError, match=r"on generated images \(worst: "):
        ready.lower(by_torch("fp32", dim), tmp_path)


@pytest.fixture(scope="module")
def made(
    groups: Network, images: Images, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Images, np.ndarray]:
    """A bundle; the images that it was proven on; and what its model answers, edges last."""
    out, few = tmp_path_factory.mktemp("made") / "made", images.first(6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "load_network", lambda *given: groups)
        patch.setattr(building, "read_images", lambda *given: few)
        opened = build(Request("linux", precision="fp32", out=out), silent)
    with closing(open_session(opened)) as session:
        frames = [*few.frames, *edges.frames().values()]
        return out, few, packaged.answers(session, frames, groups.image)


def as_packaged(made: tuple[Path, Images, np.ndarray], network: Network) -> Hop:
    out, few, expected = made
    return packaged.packaged(out, network, few.frames, edges.frames(), expected)


def shifted(pixels: np.ndarray, order: Any, spec: ImageSpec, out: np.ndarray) -> Any:
    """Corners instead of centres: half a pixel of the source to one side."""
    both = np.concatenate([pixels[:, :1], pixels], axis=1).astype(np.uint16)
    return prepare(((both[:, :-1] + both[:, 1:] + 1) // 2).astype(np.uint8), order, spec, out)


def bgr(pixels: np.ndarray, order: Any, spec: ImageSpec, out: np.ndarray) -> Any:
    return prepare(pixels, "BGR", spec, out)


def cropped(pixels: np.ndarray, order: Any, spec: ImageSpec, out: np.ndarray) -> Any:
    return prepare(pixels, order, dataclasses.replace(spec, crop_fraction=0.9), out)


@pytest.mark.parametrize("fault", [shifted, bgr, cropped])
def test_a_fault_in_preparing_pixels_is_refused(
    made: tuple[Path, Images, np.ndarray],
    groups: Network,
    monkeypatch: pytest.MonkeyPatch,
    fault: Any,
) -> None:
    assert as_packaged(made, groups).snr_db == 200
    for owner in (calibrate, golden):  # calibration, the gate and the device share one function
        monkeypatch.setattr(owner, "prepare", fault)
    with pytest.raises(ParityError) as refused:
        as_packaged(made, groups)
    assert_refused(refused, "lowered -> packaged", "the image contract")
    assert "of 255 from what the contract says" in str(refused.value)


def test_permuted_labels_are_refused(
    made: tuple[Path, Images, np.ndarray], groups: Network
) -> None:
    other = dataclasses.replace(groups, labels=(*groups.labels[1:], groups.labels[0]))
    with pytest.raises(ParityError) as refused:
        as_packaged(made, other)
    assert_refused(refused, "lowered -> packaged", "the labels")
    assert "class 0 is called 'a', not 'b'" in str(refused.value)


def test_another_contract_is_refused(
    made: tuple[Path, Images, np.ndarray], groups: Network
) -> None:
    other = dataclasses.replace(groups, image=dataclasses.replace(IMAGE, mean=(0.5, 0.5, 0.5)))
    with pytest.raises(
        ParityError, match=r"the manifest's mean is \(0.485.*, not \(0.5, 0.5, 0.5\)"
    ):
        as_packaged(made, other)
