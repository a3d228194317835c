"""Networks of other people's that a trace cannot hold: refused with the line, or exported right."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.errors import ParityError, SpecError
from edgekit.lower import export, prove
from edgekit.lower.calibrate import Images
from edgekit.lower.network import Network
from edgekit.lower.plan import Request, make_plan
from edgekit.spec import ImageSpec

IMAGE = ImageSpec(32, 32)
HEAD = """
import torch
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        x = self.norm(self.conv(x))
"""
TAIL = "        return self.head(x.mean((2, 3)))\n"
Make = Callable[[str], Network]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """A network whose forward() has these lines in its middle; in net.py, where the user is."""
    (tmp_path / "pkg").mkdir()
    monkeypatch.chdir(tmp_path)
    made: list[str] = []

    def make(body: str) -> Network:
        path = tmp_path / "pkg" / "net.py"
        path.write_text(HEAD + "".join(f"        {x}\n" for x in body.splitlines()) + TAIL)
        name = f"net_{tmp_path.name}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        made.append(name)
        spec.loader.exec_module(module)
        torch.manual_seed(0)
        return Network("net", module.Net().eval(), IMAGE, tuple("abcd"), {}, "")

    yield make
    for name in made:
        sys.modules.pop(name, None)


def proven(network: Network, images: Images, folder: Path) -> prove.Proof:
    plan = make_plan(Request("linux", precision="fp32"))
    return prove.prove(plan, network, images.first(6), folder, lambda line: None)


LINE = len(HEAD.splitlines()) + 1  # of the first line in the middle

REFUSED = {
    "if": (
        "if x.sum() > 0:\n    x = x * 2",
        f"pkg/net.py:{LINE}: `if x.sum() > 0:`: the network's control flow depends on the values",
    ),
    "if, by numpy": (
        "if x.detach().numpy().max() > 0:\n    x = x * 2",
        f"pkg/net.py:{LINE}: `if x.detach().numpy().max() > 0:`: the network's control flow",
    ),
    "loop": (
        "for _ in range(int(x.max())):\n    x = x * 2",
        f"pkg/net.py:{LINE}: `for _ in range(int(x.max())):`: the network's control flow depends",
    ),
    "buffer": (
        "self.count += 1\nx = x * self.count",
        f"pkg/net.py:{LINE}: `self.count += 1`: forward() changes 'count'",
    ),
    "attribute": (
        "self.turn = not getattr(self, 'turn', False)\nx = x * 2 if self.turn else x",
        "the network answers otherwise when the same image comes again: in Net.forward()",
    ),
    "batch norm in train mode": (
        "x = F.batch_norm(x, self.norm.running_mean, self.norm.running_var, training=True)",
        f"pkg/net.py:{LINE}: `x = F.batch_norm(x, self.norm.running_mean, self.norm.running_var, "
        "training=True)`: forward() changes 'norm.running_mean'",
    ),
    "a module put into train mode": (
        "self.norm.train()\nx = self.norm(x)",
        "forward() changes 'norm.num_batches_tracked'",
    ),
    "dropout left on": (
        "x = F.dropout(x)",
        f"pkg/net.py:{LINE}: `x = F.dropout(x)`: the network answers otherwise when the same image "
        "comes again: in Net.forward(); leave to chance nothing in eval mode",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_a_trace_cannot_hold_is_refused_with_its_line(
    make: Make, images: Images, tmp_path: Path, kind: str
) -> None:
    body, says = REFUSED[kind]
    with pytest.raises(SpecError) as refused:
        proven(make(body), images, tmp_path)
    assert says in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_the_module_that_draws_is_named(make: Make, images: Images, tmp_path: Path) -> None:
    network = make("")
    norm = network.module.get_submodule("norm")
    network.module.add_module("norm", nn.Sequential(norm, Noise()))
    with pytest.raises(SpecError, match=r"the first module that differs is 'norm\.1' \(Noise\)"):
        proven(network, images, tmp_path)


class Noise(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x)


def test_dropout_that_shows_in_no_run_is_refused_too(make: Make) -> None:
    module = make("x = F.dropout(x, 1e-9)").module
    with pytest.raises(SpecError, match=rf"pkg/net.py:{LINE}: .*draws random numbers"):
        export.export(module, torch.zeros(1, 3, 32, 32))


EXPORTED = {
    "loop over the shape": "for _ in range(x.shape[-1] // 16):\n    x = x * 1.5",
    "branch on the shape": "if x.shape[-1] > 16:\n    x = x[..., ::2]",
    "in place": "x += 1\nx[:, 2] = 0\nx[:, :2].mul_(3)",
    "batch norm of this image alone": "x = F.batch_norm(x, None, None, training=True)",
    "dropout that is off": "x = F.dropout(x, training=self.training)",
    "a choice by torch.where": "x = torch.where(x.sum() > 0, x * 2, x)",
}


@pytest.mark.parametrize("kind", EXPORTED)
def test_what_a_trace_can_hold_is_exported_right(
    make: Make, images: Images, tmp_path: Path, kind: str
) -> None:
    network = make(EXPORTED[kind])
    program = proven(network, images, tmp_path).exported
    pixels = torch.from_numpy(images.inputs[0])
    mean, std = (np.array(v, np.float32) for v in (IMAGE.mean, IMAGE.std))
    planes = torch.from_numpy((images.inputs[0] / 255 - mean) / std).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        found = program.module(check_guards=False)(pixels)
        torch.testing.assert_close(found, network.module(planes), rtol=1e-4, atol=1e-4)


def test_what_runs_otherwise_while_it_is_traced_is_refused(
    make: Make, images: Images, tmp_path: Path
) -> None:
    """No toolkit complains, the program is another one: only the gate can tell."""
    network = make("x = x if torch.compiler.is_compiling() else x * 2")
    with pytest.raises(ParityError, match="the hop 'folded -> exported' fails"):
        proven(network, images, tmp_path)
