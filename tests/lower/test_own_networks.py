"""Networks that nobody here wrote: each builds through the gate, or is refused in words that help.

The whole matrix is `scripts/bench/own_networks.py`'s; here each network is lowered once at least.
"""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from edgekit import plugins
from edgekit.errors import SpecError
from edgekit.values import toml_mapping

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:Using padding:UserWarning"
)


def _bench() -> ModuleType:
    path = ROOT / "scripts" / "bench" / "own_networks.py"
    spec = importlib.util.spec_from_file_location("bench_own_networks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BENCH = _bench()
REFUSED: dict[str, dict[str, str]] = toml_mapping(HERE / "brought" / "refused.toml")
TAKEN = [name for name in BENCH.networks() if name not in REFUSED["all"]]


def lower(name: str, backend: str, precision: str, folder: Path) -> None:
    """It builds, or is refused as the table says: with the operator, the line and a way out."""
    refused = REFUSED.get(backend, {}) | REFUSED.get(f"{backend} {precision}", {})
    operator = refused.get(name)
    if operator is None:
        proof = BENCH.attempt(name, backend, precision, folder)
        assert proof.artifact.model.exists()
        least = 60 if precision == "fp32" else 18
        assert all(hop.snr_db > least for hop in proof.hops)
        return
    with pytest.raises(SpecError) as caught:
        BENCH.attempt(name, backend, precision, folder)
    said = str(caught.value)
    assert f"{backend} cannot take {operator or 'this network'}" in said
    assert "--backend" in said
    if operator:
        assert "brought/" in said.partition(": `")[0], "the user's own line"


def test_there_are_many_and_the_table_knows_them() -> None:
    assert len(TAKEN) >= 25
    assert {key.partition(" ")[0] for key in REFUSED} <= {"all", *plugins.backends()}
    assert {name for table in REFUSED.values() for name in table} <= set(BENCH.networks())


@pytest.mark.parametrize("name", REFUSED["all"])
def test_several_outputs_are_refused_with_how_to_return_one(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        BENCH.make(name)
    assert REFUSED["all"][name] in str(caught.value)


@pytest.mark.parametrize("name", ["convnext", "unet_bilinear", "attention_module", "clamped"])
def test_some_on_onnx(name: str, tmp_path: Path) -> None:
    lower(name, "onnx", "fp32", tmp_path)


def test_a_layer_that_is_used_twice_gives_the_same_integers(tmp_path: Path) -> None:
    proof = BENCH.attempt("shared", "onnx", "int8", tmp_path)
    assert proof.hops[-1].snr_db == 200


def test_each_layer_carries_signal() -> None:
    import torch

    network = BENCH.make("transposed")
    planes = torch.randn(8, 3, 32, 32)
    with torch.inference_mode():
        logits = network.module(planes)
    assert logits.std(0).min() > 0.1, "the answer depends on the image"


@pytest.mark.slow
def test_an_average_pools_padding_is_zero_on_openvino(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    lower("pooled_with_padding", "openvino", "int8", tmp_path)


def rotated(n: int, name: str) -> str:
    """Each precision for some; powers of activations lose too much in int8, as the gate says."""
    precision = ("fp32", "int8", "fp32", "fp16")[n % 4]
    coarse = ("generalised_mean", "power_pooled", "fourier")
    return "fp32" if name in coarse else precision


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "precision"), [(name, rotated(n, name)) for n, name in enumerate(TAKEN)]
)
def test_every_one_on_onnx(name: str, precision: str, tmp_path: Path) -> None:
    lower(name, "onnx", precision, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("backend", [name for name in plugins.backends() if name != "onnx"])
@pytest.mark.parametrize(
    ("name", "precision"), [("hardswish", "int8"), ("l2_normalised", "fp32"), ("top_k", "fp32")]
)
def test_some_on_the_others(backend: str, name: str, precision: str, tmp_path: Path) -> None:
    lower(name, backend, precision, tmp_path)
