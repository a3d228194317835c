"""Find a teacher by what a recipe says of it, and make it ready to be asked."""

import copy
import dataclasses
import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgekit import bundle, checkpoint, plugins
from edgekit.errors import CheckpointError, InputError, SpecError
from edgekit.learn.distil.tflite import TfliteModel
from edgekit.learn.distil.tutor import NetworkTutor, RuntimeTutor, Tutor
from edgekit.learn.recipe.steps import Teacher
from edgekit.learn.work import Work
from edgekit.lower.load import count_classes, load_network
from edgekit.lower.network import Network, fold_batch_norm
from edgekit.spec import ImageSpec, Session


def find(teacher: Teacher, work: Work, before: nn.Module, whole: bool = False) -> Tutor:
    """Open a teacher.

    Args:
        teacher: which one, and how it is asked.
        work: the step's; its device is where a network in torch answers.
        before: the network as the step began; copied.
        whole: keep batch norm as it is, for who looks at its layers; else a network in torch is
            folded, which is faster.

    Raises:
        UnknownName, CheckpointError, BundleError, InputError, SpecError: no such teacher, one that
            is damaged, or not one that can be asked like this.
        MissingPackage: its runtime is not installed.
    """
    source, path = teacher.source, Path(teacher.source).expanduser()
    if source == "before":
        labels = tuple(spec.label for spec in work.data.classes)
        return _network(copy.deepcopy(before), work.image, labels, teacher, work, whole)
    if path.suffix == ".tflite":
        return _tflite(teacher, path)
    if path.is_dir():
        return _bundle(teacher, path)
    found = _load(teacher)
    labels = found.labels if found.labels[0] != "class 0" else ()  # made up for want of others
    return _network(found.module, found.image, labels, teacher, work, whole)


def _load(teacher: Teacher) -> Network:
    """A checkpoint, with or without a card, or the user's function."""
    source, model = teacher.source, teacher.model
    file = source.endswith(".safetensors")
    if ":" in source and not file:
        if model:
            raise InputError(
                f"teacher '{source}' is a function already; leave out model = '{model}', or give "
                "a checkpoint as its source"
            )
        return load_network(source, arguments=teacher.arguments)
    stored = checkpoint.resolve(source)
    if not model and checkpoint.read_card(stored) is None:
        raise CheckpointError(
            f"the teacher {source} has no card beside it; say which network it holds, as in "
            'model = "mobilenet_v2"'
        )
    if model:
        return load_network(model, str(stored), arguments=teacher.arguments)
    return load_network(str(stored), arguments=teacher.arguments)


def _network(
    module: nn.Module,
    image: ImageSpec,
    labels: tuple[str, ...],
    teacher: Teacher,
    work: Work,
    whole: bool,
) -> NetworkTutor:
    image = _contract(image, teacher)
    module = module.eval().requires_grad_(False)
    digest = _digest_of(module, image, teacher.precision)
    outputs = count_classes(module, image, teacher.source)
    if not whole:
        fold_batch_norm(module)
    module.to(work.place.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    bf16 = teacher.precision == "bf16"
    return NetworkTutor(module, image, teacher.source, digest, outputs, labels, bf16)


def _contract(image: ImageSpec, teacher: Teacher) -> ImageSpec:
    """The teacher's own, over which the recipe has the last word."""
    if teacher.size:
        image = dataclasses.replace(image, height=teacher.size, width=teacher.size)
    if teacher.mean:
        mean, std = (teacher.mean[0], *teacher.mean[1:]), (teacher.std[0], *teacher.std[1:])
        assert len(mean) == len(std) == 3
        image = dataclasses.replace(image, mean=mean, std=std)
    return image


def _digest_of(module: nn.Module, image: ImageSpec, precision: str) -> str:
    """Of its structure, its weights, and what it is told of pixels."""
    found = hashlib.sha256(f"{module} {image.mean} {image.std} {precision}".encode())
    for name, value in module.state_dict().items():
        found.update(f"\0{name} {value.dtype} {tuple(value.shape)}\0".encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _tflite(teacher: Teacher, path: Path) -> RuntimeTutor:
    models = [TfliteModel(path, teacher.mean, teacher.std) for _ in range(_threads())]
    _check_size(teacher, models[0].entry.size)
    digest = hashlib.sha256(path.read_bytes() + f"{teacher.mean} {teacher.std}".encode())
    return RuntimeTutor(
        runs=[model.run for model in models],
        close=partial(_close, models),
        name=teacher.source,
        digest=digest.hexdigest(),
        size=models[0].entry.size,
        outputs=models[0].outputs,
        labels=(),
    )


def _bundle(teacher: Teacher, path: Path) -> RuntimeTutor:
    if teacher.mean:
        raise SpecError(
            f"the bundle {path} takes a camera's pixels, its normalisation is inside; leave out "
            "'mean' and 'std'"
        )
    read = bundle.read(path)
    image = read.manifest.image
    _check_size(teacher, (image.height, image.width))
    # Not open_session: it pins this thread to the device's cores.
    options = dataclasses.replace(read.manifest.session, threads=1)
    load = plugins.loader(read.manifest.backend)
    sessions = [load(read.model, options) for _ in range(_threads())]
    return RuntimeTutor(
        runs=[partial(_run, session) for session in sessions],
        close=partial(_close, sessions),
        name=teacher.source,
        digest=hashlib.sha256((path / bundle.MANIFEST).read_bytes()).hexdigest(),
        size=(image.height, image.width),
        outputs=read.manifest.outputs[0].shape[-1],
        labels=read.labels,
    )


def _run(session: Session, pixels: np.ndarray) -> np.ndarray:
    """(n, H, W, 3) uint8 -> (n, classes) float32, an image after the other."""
    answers = np.empty((len(pixels), session.outputs[0].shape[-1]), np.float32)
    entry, output = session.inputs[0].name, session.outputs[0].name
    for image, answer in zip(pixels, answers, strict=True):
        answer[:] = session.run(partial(_lend, entry, image))[output]
    return answers


def _lend(entry: str, image: np.ndarray, views: Mapping[str, np.ndarray]) -> None:
    np.copyto(views[entry][0], image)


def _close(opened: list[TfliteModel] | list[Session]) -> None:
    for each in opened:
        each.close()


def _check_size(teacher: Teacher, size: tuple[int, int]) -> None:
    if teacher.size and size != (teacher.size, teacher.size):
        raise SpecError(
            f"teacher '{teacher.source}' takes {size[1]} x {size[0]} pixels, which its file fixes; "
            f"leave out size = {teacher.size}"
        )


def _threads() -> int:
    """As many as torch would use, so that OMP_NUM_THREADS holds for every teacher."""
    return torch.get_num_threads()
