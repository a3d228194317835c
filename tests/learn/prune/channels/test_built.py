"""Pruned networks on a device: lowered, timed, and built as bundles that verify."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit import bundle, checkpoint
from edgekit.checkpoint import Card
from edgekit.cost.layers import cost
from edgekit.device.golden import replay
from edgekit.device.session import open_session
from edgekit.learn.prune.channels.criteria import norms
from edgekit.learn.prune.channels.latency import lower, plan_for, time_beside
from edgekit.learn.prune.channels.target import candidates, flow_of, prune_to
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.recipe.steps import PruneStep
from edgekit.lower.build import build
from edgekit.lower.calibrate import from_photographs
from edgekit.lower.load import load_network
from edgekit.lower.plan import Request
from edgekit.lower.untrained import settle
from edgekit.spec import ImageSpec

IMAGE = ImageSpec(64, 64)
STEP = PruneStep("prune", "prune", "channels", Fit(0.1), macs=0.5)
ARGUMENTS = {"num_classes": 10, "stem_stride": 1}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


def halved(name: str) -> tuple[torch.nn.Module, torch.nn.Module, dict[str, dict[str, int]]]:
    """A network, it at half its MACs, and the widths that make it so."""
    module = load_network(name, "random", image=IMAGE, arguments=ARGUMENTS).module
    flow = flow_of(module, IMAGE)
    small = prune_to(candidates(module, IMAGE, STEP, flow, norms(module, flow)), 0.5)
    return module, settle(small.module, IMAGE), small.widths


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2_x1_0"])
def test_a_pruned_checkpoint_is_built_in_int8_and_verifies(name: str, tmp_path: Path) -> None:
    module, small, widths = halved(name)
    card = Card(
        schema=checkpoint.SCHEMA,
        architecture=name,
        arguments=ARGUMENTS,
        image=IMAGE,
        labels=tuple(f"class {n}" for n in range(10)),
        sha256="",
        trained_on="nothing",
        license="Apache-2.0",
        accuracy=None,
        accuracy_images=0,
        recipe="",
        seed=0,
        tools={},
        widths=widths,
    )
    path = tmp_path / "pruned.safetensors"
    checkpoint.write(path, {n: v.numpy() for n, v in small.state_dict().items()}, card)
    request = Request("raspberry-pi", str(path), precision="int8", out=tmp_path / "bundle")
    made = build(request, lambda _: None)
    assert made.size < 0.8 * 4 * sum(p.numel() for p in module.parameters())
    read = bundle.read(made.path)
    with closing(open_session(read)) as session:
        assert replay(read, session).passed
    assert cost(load_network(str(path)).module, IMAGE).macs < 0.52 * cost(module, IMAGE).macs


def test_a_candidate_is_lowered_and_timed_beside_another(tmp_path: Path) -> None:
    module, small, _ = halved("mobilenet_v2")
    images = from_photographs(IMAGE, 8)
    plan = plan_for("raspberry-pi", "int8")
    with (
        closing(lower(module, IMAGE, 10, plan, images, tmp_path / "large")) as first,
        closing(lower(small, IMAGE, 10, plan, images, tmp_path / "small")) as second,
    ):
        large_ms, small_ms = time_beside((first, second), images.inputs[0], runs=50)
        assert np.isfinite(small_ms)
        assert small_ms < large_ms
