"""Our networks are the published ones: same names and shapes, same settings, same logits.

`published.json` is what timm's and torchvision's own networks gave, filled by a formula of names
and shapes; `scripts/peers/published_architectures.py` wrote it, and fills ours here.
"""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from edgekit import plugins

HERE = Path(__file__).resolve().parent
CASES: list[dict[str, Any]] = json.loads((HERE / "published.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def peers(root: Path) -> ModuleType:
    path = root / "scripts" / "peers" / "published_architectures.py"
    spec = importlib.util.spec_from_file_location("published_architectures", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    return module


def test_every_family_with_published_names_is_held(peers: ModuleType) -> None:
    assert [case["architecture"] for case in CASES] == [c.architecture for c in peers.CASES]
    # No library names these: the papers' figures hold them, in test_figures.py.
    own = {"shufflenet_v1", "cifar_resnet20", "cifar_resnet56"}
    assert set(plugins.architectures()) == {case["architecture"] for case in CASES} | own


@pytest.mark.parametrize("case", CASES, ids=[case["peer"].rpartition(" ")[2] for case in CASES])
def test_it_is_the_published_network(case: dict[str, Any], peers: ModuleType) -> None:
    with torch.device("meta"):  # it is filled below: no time for random numbers
        module = plugins.architecture(case["architecture"])(**case["arguments"])
    shapes = peers.shapes(module)
    assert {name: list(shapes.get(name, ())) for name in case["first_shapes"]} == case[
        "first_shapes"
    ]
    assert sum(p.numel() for p in module.parameters()) == case["parameters"]
    assert peers.digest(shapes) == case["shapes_sha256"], (
        f"names or shapes are not {case['peer']}'s"
    )
    assert peers.settings(module) == case["batch_norm"]
    logits = peers.logits(module, [(name, name) for name in shapes])
    tolerance = 1e-9 * np.abs(case["logits"]).max()
    np.testing.assert_allclose(logits, case["logits"], rtol=0, atol=tolerance)
