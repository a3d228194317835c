"""What the processes of the tests do; each function is run in every one of them.

`python -m tests.learn.train.workers FUNCTION OUT [JSON]`
"""

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekit.errors import InputError
from edgekit.learn.data import source
from edgekit.learn.recipe.data import Augment, DataSpec
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.recipe.recipe import Head, Recipe
from edgekit.learn.recipe.steps import ModelChoice, TrainStep
from edgekit.learn.teach import teach
from edgekit.learn.train.distributed import agree, agree_on_file, first_makes, joined
from edgekit.learn.train.objective import Labels, Part
from edgekit.learn.train.place import Place
from edgekit.learn.train.sync import Learner, synchronised
from edgekit.learn.work import Work
from edgekit.spec import ImageSpec
from tests.learn.conftest import Silent


class Net(nn.Module):
    """Convolutions, batch norm and a depthwise stride in float64; 3 x 24 x 24 -> 3 classes."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.dtype = dtype
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()),
            *(nn.Conv2d(8, 8, 3, 2, 1, groups=8, bias=False), nn.BatchNorm2d(8), nn.Hardswish()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(8), nn.Linear(8, 3)),
        )
        self.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.features(x.to(self.dtype))
        return out


NORMS: dict[str, nn.Module] = {
    "2d": nn.BatchNorm2d(6),
    "1d": nn.BatchNorm1d(6),
    "3d": nn.BatchNorm3d(6, eps=1e-3, momentum=0.3),
    "cumulative": nn.BatchNorm2d(6, momentum=None),
    "plain": nn.BatchNorm2d(6, affine=False),
    "untracked": nn.BatchNorm2d(6, track_running_stats=False),
}
SHAPES = {"1d": (6,), "3d": (6, 2, 3, 4)}


def images(name: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """(8, C, ...) and the gradient that comes back; far from a mean of zero."""
    torch.manual_seed(3)
    shape = (8, *SHAPES.get(name, (6, 5, 4)))
    x = torch.randn(shape, dtype=dtype) * 3 + 20
    x = x.to(memory_format=torch.channels_last) if x.dim() == 4 else x
    return x, torch.randn(shape, dtype=dtype)


def normed(name: str, share: slice, place: Place, dtype: torch.dtype) -> dict[str, Tensor]:
    """Two steps of a batch norm on the images `share`, and one in eval mode."""
    torch.manual_seed(4)
    norm = NORMS[name].to(dtype)
    for parameter in norm.parameters():
        nn.init.uniform_(parameter)
    names = list(norm.state_dict())
    x, back = (value[share] for value in images(name, dtype))
    x.requires_grad_()
    with synchronised(norm, place):
        norm(x * 2).sum().backward()
        norm.zero_grad()
        x.grad = None
        out = norm(x)
        out.backward(back)
        norm.eval()
        evaluated = norm(x.detach())
    assert list(norm.state_dict()) == names
    assert "forward" not in norm.__dict__
    assert x.grad is not None
    found = {"out": out.detach(), "grad": x.grad, "evaluated": evaluated.detach()}
    found |= {f"of {n}": p.grad for n, p in norm.named_parameters() if p.grad is not None}
    return found | {n: b.clone() for n, b in norm.named_buffers()}


def norms(place: Place, out: Path) -> None:
    """Batch norm on 5 and 3 of 8 images."""
    share = (slice(0, 5), slice(5, 8))[place.rank]
    for name in NORMS:
        torch.save(normed(name, share, place, torch.float64), out / f"{name}-{place.rank}.pt")
    low = normed("2d", share, place, torch.float32)
    torch.save(low, out / f"single-{place.rank}.pt")


def gradients(place: Place, out: Path) -> None:
    """Of `Net` on 8 images in two parts."""
    net = Net()
    x, answers = torch.randn(8, 3, 24, 24), F.one_hot(torch.arange(8) % 3).double()
    learner = Learner(net, Labels(), place)
    each = 4 // place.world
    with synchronised(net, place):
        for last, half in ((False, 0), (True, 4)):
            mine = slice(half + place.rank * each, half + (place.rank + 1) * each)
            number = torch.zeros(each, dtype=torch.int64)
            with learner.gathering(last):
                loss = learner.loss(Part(x[mine], answers[mine], number, number))
                (loss / 2).backward()
    learner.check()
    torch.save({n: p.grad for n, p in net.named_parameters()}, out / f"gradients-{place.rank}.pt")


def share(place: Place, out: Path, given: Mapping[str, Any]) -> None:
    """What `test_sync` looks at, ending with a network that has a parameter too many."""
    norms(place, out)
    gradients(place, out)
    net = nn.ModuleDict({"used": nn.Sequential(nn.Flatten(), nn.Linear(3, 3))})
    net.forward = net["used"].forward
    net["idle"] = nn.Linear(2, 2)
    learner = Learner(net, Labels(), place)
    number = torch.zeros(1, dtype=torch.int64)
    learner.loss(Part(torch.ones(1, 3, 1, 1), torch.eye(3)[:1], number, number)).backward()
    learner.check()


def fitting(place: Place, out: Path, given: Mapping[str, Any]) -> None:
    """Train `Net` as each of `fits` says."""
    for name, fit in given["fits"].items():
        fit_one(place, out / name, {**given, "fit": fit})


def fit_one(place: Place, out: Path, given: Mapping[str, Any]) -> None:
    """Train `Net`; process `die` is killed in step `step`, the first time."""
    spec = DataSpec(Path(given["data"]))
    data = source.read(spec, ())
    image = ImageSpec(24, 24, crop_fraction=1.0, interpolation="area")
    how = Fit(**given["fit"])
    model = ModelChoice("tests.learn.train.workers:Net")
    head = Head("small", 1, "made-up colours", "Apache-2.0", spec, model, image, Augment())
    recipe = Recipe(head, (), (TrainStep("train", "train", how),), text="")
    watch = Silent()
    if given.get("die") == place.rank:
        watch = Dying(out / "died", given["step"])
    net = Net(torch.float32 if given.get("single") else torch.float64)
    out.mkdir(exist_ok=True)
    fitted = teach(net, how, None, Work(recipe, data, place, watch, out), net)
    torch.save(fitted.module.state_dict(), out / f"fitted-{place.rank}.pt")
    (out / f"rows-{place.rank}.json").write_text(json.dumps(fitted.rows))


class Dying(Silent):
    """Kills its process at a step, once."""

    def __init__(self, mark: Path, step: int) -> None:
        super().__init__()
        self._mark, self._step = mark, step

    def step(self, task: str, done: int, total: int, note: str = "") -> None:
        if done == self._step and not self._mark.exists():
            self._mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _fail() -> None:
    raise InputError("the teacher cannot be read")


def waiting(place: Place, out: Path, given: Mapping[str, Any]) -> None:
    """What the processes say to each other, and the errors of one of them."""
    made = out / "made"
    first_makes(place, lambda: _write(made, str(place.rank)))
    assert made.read_text() == "0"
    assert place.peers.each(f"I am {place.rank}") == ["I am 0", "I am 1"]
    agree_on_file(place, made)
    case = given["case"]
    if case == "disagree":
        agree(place, f"seed {place.rank}", "the recipe")
    if case == "unseen":
        agree_on_file(place, out / f"only-{place.rank}" if place.rank else made)
    if case == "one" and place.rank == 1:
        raise InputError("no such file on this machine")
    if case == "first" and place.rank == 0:
        first_makes(place, _fail)
    if case == "lost" and place.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if case in ("first", "one"):
        first_makes(place, lambda: None)
    torch.distributed.barrier()


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[2])
    with joined("cpu") as here:
        globals()[sys.argv[1]](here, folder, json.loads((sys.argv[3:] or ["{}"])[0]))
