"""Counting operators, checked against the formats' own libraries."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import bundle, plugins
from edgekit.errors import BundleError
from targets.onnx.operators import operators


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes: list[Any] = [helper.make_node("Relu", [f"x{i}"], [f"x{i + 1}"]) for i in range(200)]
    nodes.append(helper.make_node("Gelu", ["x200"], ["y"], domain="com.microsoft"))
    values = [helper.make_tensor_value_info(name, kind, (1,)) for name in ("x0", "y")]
    weight = helper.make_tensor("w", kind, (1000,), [0.5] * 1000)
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [weight], doc_string="d" * 300)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    onnx.save(helper.make_model(graph), path)
    return path


def test_onnx_agrees_with_the_package_onnx(model: Path) -> None:
    onnx = pytest.importorskip("onnx")
    expected = Counter(
        ".".join(filter(None, (node.domain, node.op_type))) for node in onnx.load(model).graph.node
    )
    assert operators(model) == expected == {"Relu": 200, "com.microsoft.Gelu": 1}


@settings(deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_counted_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(data)
    try:
        operators(path)
    except BundleError as error:
        assert "not an ONNX model" in str(error)  # noqa: PT017


def test_a_truncated_onnx_file_is_refused(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    path.write_bytes(model.read_bytes()[:-5])
    with pytest.raises(BundleError, match="not an ONNX model: it ends within a field"):
        operators(path)


@pytest.mark.parametrize("backend", plugins.backends())
def test_no_backend_trips_over_a_file_of_another_kind(backend: str, tmp_path: Path) -> None:
    pytest.importorskip({"litert": "ai_edge_litert"}.get(backend, "numpy"))
    path = tmp_path / "model"
    path.write_bytes(b"this is text, and no model at all")
    with pytest.raises(BundleError, match="model"):
        plugins.reader(backend)(path)
    with pytest.raises(BundleError, match="cannot read"):
        plugins.reader(backend)(tmp_path / "absent")


RELEASED = [path.parent for path in (Path(__file__).parents[1] / "bundles").rglob("manifest.json")]


@pytest.mark.parametrize("released", RELEASED, ids=lambda path: path.name)
def test_every_released_bundle_has_operators_to_count(released: Path) -> None:
    found = bundle.read(released)
    pytest.importorskip({"litert": "ai_edge_litert"}.get(found.manifest.backend, "numpy"))
    counts = plugins.reader(found.manifest.backend)(found.model)
    assert sum(counts.values()) > 10
