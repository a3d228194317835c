"""A teacher that is asked about every view of every image, once."""

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgekit.learn.data.ahead import in_order, threads_here
from edgekit.learn.data.augment import render
from edgekit.learn.distil.answers import Answers, stored
from edgekit.learn.distil.choice import Chosen
from edgekit.learn.recipe.steps import Distill
from edgekit.learn.train.distributed import first_makes
from edgekit.learn.work import Work

FORMAT = 1
"""Of the files: another one where what they hold comes to mean something else."""
_AT_ONCE = 128
"""Views in one question."""


def answers_of(chosen: Chosen, distill: Distill, work: Work) -> np.ndarray:
    """(images, views, classes) float16, mapped: asked for, where no run has asked before."""
    views, tutor = work.recipe.head.augment.views, chosen.tutor
    folder, key = _folder(distill, work), _key(chosen, work)
    answers = Answers(
        path=folder / f"{_plain(tutor.name)}-{tutor.size[1]}-{key.hex()[:12]}.answers",
        key=key,
        images=len(work.data.train),
        views=views,
        classes=len(work.data.classes),
    )
    few = max(_AT_ONCE // views, 1)

    def drawn(start: int) -> Tensor:
        images = np.arange(start, min(start + few, answers.images))
        view = np.tile(np.arange(views), len(images))
        return rendered(np.repeat(images, views), view, tutor.size, work)

    def ask(first: int) -> Iterator[np.ndarray]:
        starts = range(first, answers.images, few)
        for pixels in in_order(drawn, starts, threads_here(), ahead=4, name="views"):
            said = chosen.logits(pixels.to(work.place.device))
            yield said.cpu().numpy().reshape(-1, views, answers.classes)

    ready = partial(stored, answers, ask, work.watch, f"{work.folder.name}: asking {tutor.name}")
    first_makes(work.place, ready)
    return ready()


def rendered(index: np.ndarray, view: np.ndarray, size: tuple[int, int], work: Work) -> Tensor:
    """Views as the student sees them, but at `size` from the images' own pixels.

    (B,), (B,) -> (B, *size, 3) uint8, in host memory.
    """
    how, pixels = work.recipe.head.augment, work.data.train.pixels
    return torch.from_numpy(render(pixels, index, view, size, how, how.seed or work.seed))


def _folder(distill: Distill, work: Work) -> Path:
    if distill.answers:
        return Path(distill.answers).expanduser()
    return work.folder.parent / "answers"


def _plain(name: str) -> str:
    """What a file can be called."""
    last = Path(name.rpartition(":")[2]).stem
    return "".join(c if c.isalnum() else "_" for c in last)


def _key(chosen: Chosen, work: Work) -> bytes:
    """Digest of all that the answers depend on: teacher, classes, images, and how views are drawn.

    The views of one image stand for the code that draws them.
    """
    how, tutor = work.recipe.head.augment, chosen.tutor
    views = np.arange(how.views)
    drawn = rendered(np.zeros_like(views), views, tutor.size, work).numpy()
    found = hashlib.sha256(drawn.tobytes())
    said = (tutor.digest, tutor.size, chosen.outputs, work.data.train.fingerprint)
    found.update(repr((FORMAT, said, how, how.seed or work.seed)).encode())
    return found.digest()
