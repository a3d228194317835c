"""Every family, with random weights, through the gate; and the operators that it becomes.

The counts in `operators.json` are this code's own. Where a toolkit's new release changes one, look
at the graph first; then write them anew with EDGEKIT_WRITE_GOLDEN=1.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest

from edgekit import plugins
from edgekit.lower.calibrate import Images, from_photographs
from edgekit.lower.load import load_network
from edgekit.lower.network import Network
from edgekit.lower.plan import Plan, Request, make_plan
from edgekit.lower.prove import prove
from edgekit.spec import ImageSpec, Placement

GOLDEN = Path(__file__).with_name("operators.json")
IMAGE = ImageSpec(96, 96)

# One of each family, the smallest; others differ in widths and repeats alone.
ZOO: Mapping[str, Mapping[str, int | float | bool]] = {
    "mobilenet_v1": {"width_mult": 0.25},
    "mobilenet_v2": {"width_mult": 0.35},
    "mobilenet_v3_large": {},
    "mobilenet_v3_small": {"minimalistic": True},
    "mobilenetv4_conv_small": {},
    "mobileone_s0": {},
    "shufflenet_v1": {"groups": 3, "scale": 0.5},
    "shufflenet_v2_x0_5": {},
    "ghostnet_050": {},
    "squeezenet1_1": {},
    "efficientnet_b0": {},
    "efficientnet_lite0": {},
    "resnet18": {},
    "resnet50": {},
    "cifar_resnet20": {},
}
BUILDS = [
    (target, precision) for target in ("raspberry-pi", "jetson") for precision in ("fp32", "int8")
]
# Of a lowered network: layout transposes, which only ONNX's one at the camera's (N, H, W, C) needs.
TRANSPOSES = {"raspberry-pi": 0, "jetson": 1}
SHUFFLES = {"shufflenet_v1": 16, "shufflenet_v2_x0_5": 16}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@cache
def network(name: str) -> Network:
    return load_network(name, "random", image=IMAGE, arguments={"num_classes": 50, **ZOO[name]})


@cache
def images() -> Images:
    return from_photographs(IMAGE, 32)


@pytest.fixture(scope="module")
def golden() -> Iterator[dict[str, dict[str, int]]]:
    stored: dict[str, dict[str, int]] = (
        json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    )
    yield stored
    if os.environ.get("EDGEKIT_WRITE_GOLDEN"):
        lines = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(stored.items())]
        GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def delegated(placed: Placement) -> str:
    """What the session says where the forecast is right."""
    left = sorted(op.kind for op in placed.operators if op.partition < 0)
    total = len(placed.operators)
    rest = f"; left to slower kernels: {', '.join(left)}" if left else ""
    return f"LiteRT: XNNPACK runs {total - len(left)} of {total} operators{rest}"


def test_every_family_is_lowered() -> None:
    files = {plugins.architecture_file(name) for name in plugins.architectures()}
    assert {plugins.architecture_file(name) for name in ZOO} == files


@pytest.mark.parametrize(("target", "precision"), BUILDS)
@pytest.mark.parametrize("name", ZOO)
def test_it_passes_the_gate_and_becomes_these_operators(
    name: str,
    target: str,
    precision: str,
    golden: dict[str, dict[str, int]],
    tmp_path: Path,
) -> None:
    plan: Plan = make_plan(Request(target=target, precision=precision))
    proof = prove(plan, network(name), images(), tmp_path, lambda _line: None)
    artifact, hops = proof.artifact, proof.hops
    assert len(hops) == (4 if precision == "int8" else 3)
    assert all(hop.snr_db > 80 for hop in hops if precision == "fp32")

    backend = plan.target.backend
    placed = plugins.placer(backend)(artifact.model, plan.session)
    if backend == "litert":  # what TensorRT takes shows on the device alone
        with closing(plan.load(artifact.model, plan.session)) as session:
            assert session.notes == (delegated(placed),), "forecast, and what was delegated"

    counts = dict(sorted(plugins.reader(plan.target.backend)(artifact.model).items()))
    allowed = TRANSPOSES[target] + SHUFFLES.get(name, 0)
    assert counts.get("TRANSPOSE", 0) + counts.get("Transpose", 0) == allowed
    key = f"{name} {target} {precision}"
    if os.environ.get("EDGEKIT_WRITE_GOLDEN"):
        golden[key] = counts
    assert golden.get(key) == counts
