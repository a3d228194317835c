"""Where teachers come from: each kind of source, and what is wrong with a wrong one."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from edgekit.bundle import Manifest, seal
from edgekit.errors import BundleError, CheckpointError, InputError, SpecError, UnknownName
from edgekit.learn import chain
from edgekit.learn.distil.choice import Chosen, outputs_of
from edgekit.learn.distil.teachers import find
from edgekit.learn.distil.tutor import Tutor, camera_pixels, resized
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.recipe.recipe import Recipe
from edgekit.learn.recipe.steps import Teacher, TrainStep
from edgekit.learn.train.step import normalise
from edgekit.learn.work import Work
from edgekit.lower.load import build_network
from edgekit.spec import ImageSpec, TensorSpec
from tests.learn.conftest import Silent
from tests.targets.conftest import HEIGHT, WIDTH, WRITERS

Open = Callable[..., Tutor]


def network(classes: int = 3, scale: float = 1.0) -> nn.Module:
    """The user's own function: the mean colours of a normalised image."""
    torch.manual_seed(classes)
    last = nn.Linear(3, classes)
    with torch.no_grad():
        last.weight.mul_(scale)
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)


OURS = f"{__name__}:network"


@pytest.fixture
def opened(work: Work) -> Open:
    """Finds a teacher; `before` is the user's network with three classes."""

    def opened(source: Path | str, **keys: Any) -> Tutor:
        return find(Teacher(str(source), **keys), work, network().eval())

    return opened


@pytest.fixture
def pixels() -> torch.Tensor:
    torch.manual_seed(7)
    return torch.randint(0, 256, (5, 24, 24, 3), dtype=torch.uint8)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Weights without a card: a narrow MobileNetV2, stored with its batch norm."""
    torch.manual_seed(2)
    module = build_network("mobilenet_v2", {"num_classes": 1000, "width_mult": 0.1})
    tensors = {name: value.numpy() for name, value in module.state_dict().items()}
    save_file(tensors, tmp_path / "bare.safetensors")
    return tmp_path / "bare.safetensors"


def test_before_is_the_network_as_the_step_began(work: Work, pixels: torch.Tensor) -> None:
    module = network().eval()
    wanted = module(normalise(pixels, work.image)).detach()
    tutor = find(Teacher("before"), work, module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()  # the student learns on
    torch.testing.assert_close(tutor.answer(pixels), wanted)
    assert (tutor.size, tutor.outputs, tutor.labels) == ((24, 24), 3, ("a", "b", "c"))


def test_a_checkpoint_with_a_card(
    make_recipe: Callable[..., Recipe], work: Work, watch: Silent, tmp_path: Path, opened: Open
) -> None:
    recipe = make_recipe(TrainStep("train", "train", Fit(learning_rate=0.01, epochs=2, batch=8)))
    done = chain.run(recipe, tmp_path / "run", watch, recipe.steps)[0]
    tutor = opened(done.path)
    images = torch.from_numpy(np.asarray(work.data.validation.pixels))
    with torch.no_grad():
        wanted = done.student.module(normalise(images, work.image))
    torch.testing.assert_close(tutor.answer(images), wanted, rtol=1e-3, atol=1e-3)  # folded
    assert tutor.labels == ("a", "b", "c")


def test_a_checkpoint_without_a_card(bare: Path, opened: Open) -> None:
    tutor = opened(bare, model="mobilenet_v2", arguments={"width_mult": 0.1}, size=32)
    assert (tutor.size, tutor.outputs, tutor.labels) == ((32, 32), 1000, ())
    with pytest.raises(CheckpointError, match='has no card.*model = "mobilenet_v2"'):
        opened(bare)
    with pytest.raises(CheckpointError, match="has no tensor"):
        opened(bare, model="squeezenet1_1")


def test_the_users_function_and_its_normalisation(opened: Open, pixels: torch.Tensor) -> None:
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    given = {"arguments": {"classes": 7, "scale": 2.0}, "mean": mean, "std": std, "size": 24}
    tutor = opened(OURS, **given)
    wanted = network(7, 2.0)(normalise(pixels, ImageSpec(24, 24, mean=mean, std=std)))
    torch.testing.assert_close(tutor.answer(pixels), wanted.detach())
    assert (tutor.outputs, tutor.labels, opened(OURS).size) == (7, (), (224, 224))


def test_bf16_is_near(opened: Open, pixels: torch.Tensor) -> None:
    exact, near = (opened(OURS, precision=p, size=24).answer(pixels) for p in ("fp32", "bf16"))
    assert near.dtype == torch.float32
    assert 0 < (exact - near).abs().max() < 0.05


@pytest.mark.parametrize("backend", ["litert", "onnx", "openvino"])
def test_a_bundle_of_any_backend(
    backend: str, manifest: Manifest, tmp_path: Path, opened: Open
) -> None:
    folder = bundle(backend, manifest, tmp_path / "bundle")
    tutor = opened(folder)
    images = torch.randint(0, 256, (5, HEIGHT, WIDTH, 3), dtype=torch.uint8)
    wanted = images.float().mean((1, 2)) / 16
    torch.testing.assert_close(tutor.answer(images), wanted, rtol=1e-4, atol=1e-4)
    assert (tutor.size, tutor.labels) == ((HEIGHT, WIDTH), ("a", "b", "c"))
    tutor.close()
    with pytest.raises(SpecError, match="takes 12 x 8 pixels.*leave out size = 32"):
        opened(folder, size=32)
    with pytest.raises(SpecError, match="leave out 'mean' and 'std'"):
        opened(folder, mean=(0.5,) * 3, std=(0.5,) * 3)


def bundle(backend: str, manifest: Manifest, folder: Path) -> Path:
    """Mean colours as a bundle."""
    suffix, write = WRITERS[backend]
    (folder / "golden").mkdir(parents=True)
    write(folder / f"model{suffix}", 1)
    for name in ("0.png", "0_input.npy", "0_output.npy"):
        (folder / "golden" / name).write_bytes(b"not looked at")
    (folder / "labels.txt").write_text("a\nb\nc\n")
    changed = dataclasses.replace(
        manifest,
        backend=backend,
        model=f"model{suffix}",
        image=dataclasses.replace(manifest.image, height=HEIGHT, width=WIDTH),
        inputs=(TensorSpec("image", (1, HEIGHT, WIDTH, 3), "uint8"),),
        outputs=(TensorSpec("logits", (1, 3), "float32"),),
    )
    seal(folder, changed)
    return folder


def test_a_tflite_file(tmp_path: Path, opened: Open) -> None:
    WRITERS["litert"][1](tmp_path / "mean.tflite", 1)
    tutor = opened(tmp_path / "mean.tflite")
    images = torch.randint(0, 256, (5, HEIGHT, WIDTH, 3), dtype=torch.uint8)
    torch.testing.assert_close(tutor.answer(images), images.float().mean((1, 2)) / 16)
    tutor.close()
    with pytest.raises(SpecError, match="leave out size = 9"):
        opened(tmp_path / "mean.tflite", size=9)


def test_threads_share_the_work_and_keep_the_order(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITERS["litert"][1](tmp_path / "mean.tflite", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    tutor = opened(tmp_path / "mean.tflite")
    images = torch.randint(0, 256, (7, HEIGHT, WIDTH, 3), dtype=torch.uint8)
    torch.testing.assert_close(tutor.answer(images), images.float().mean((1, 2)) / 16)
    torch.testing.assert_close(tutor.answer(images[:1]), images[:1].float().mean((1, 2)) / 16)
    tutor.close()


def test_a_digest_tells_teachers_apart(opened: Open, bare: Path) -> None:
    same = [opened(OURS).digest, opened(OURS).digest]
    others = [
        opened(OURS, arguments={"scale": 2.0}).digest,
        opened(OURS, arguments={"classes": 4}).digest,
        opened(OURS, mean=(0.5,) * 3, std=(0.5,) * 3).digest,
        opened(OURS, precision="bf16").digest,
        opened(bare, model="mobilenet_v2", arguments={"width_mult": 0.1}).digest,
    ]
    assert len(set(same)) == 1
    assert len({*same, *others}) == 6


def test_a_source_that_is_not_there_is_told(opened: Open, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no checkpoint 'befor'"):
        opened("befor")
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        opened(tmp_path / "none.safetensors")
    with pytest.raises(BundleError):
        opened(tmp_path)
    with pytest.raises(InputError, match="cannot import 'nowhere:network'"):
        opened("nowhere:network")
    with pytest.raises(InputError, match="is a function already"):
        opened(OURS, model="mobilenet_v2")


def test_camera_pixels_undo_normalise(pixels: torch.Tensor) -> None:
    image = ImageSpec(24, 24, mean=(0.485, 0.4, 0.2), std=(0.3, 0.229, 0.6))
    assert torch.equal(camera_pixels(normalise(pixels, image), image), pixels)


def test_resized_is_bilinear_and_covers_what_it_leaves_out(pixels: torch.Tensor) -> None:
    assert resized(pixels, (24, 24)) is pixels
    grown = resized(torch.tensor([[[[0] * 3, [100] * 3]]], dtype=torch.uint8), (1, 4))
    assert grown[0, 0, :, 0].tolist() == [0, 25, 75, 100]
    checks = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 255
    small = resized(checks.to(torch.uint8)[None, :, :, None].expand(1, 16, 16, 3), (4, 4))
    assert (small[:, 1:3, 1:3].int() - 128).abs().max() <= 2  # grey, not a sample of 0 or 255


def test_the_shared_teacher_knows_photographs(shared: Path, work: Work) -> None:
    from edgekit.device.image import prepare, read_image
    from edgekit.learn.recipe.data import ClassSpec

    file = shared / "weights" / "teachers" / "mobilenet_edgetpu_1.0_224_uint8.tflite"
    folder = shared / "images" / "imagenet_val"
    lines = [line.split() for line in (folder / "labels.txt").read_text().splitlines()][::50]
    tutor = find(Teacher(str(file), outputs="imagenet"), work, nn.Identity())
    places = [ClassSpec(str(n), str(n), n) for n in range(1000)]
    pixels = np.empty((len(lines), 224, 224, 3), np.uint8)
    for (name, _), out in zip(lines, pixels, strict=True):
        prepare(read_image(folder / name), "RGB", ImageSpec(224, 224), out)
    outputs = outputs_of(places, tutor, "imagenet")
    chosen = Chosen(tutor, outputs, torch.from_numpy(pixels[:2]))
    right = chosen.logits(torch.from_numpy(pixels)).argmax(1).numpy() == [int(n) for _, n in lines]
    assert right.mean() > 0.6  # 82 % of 1,300; one off by one would know none
    tutor.close()
