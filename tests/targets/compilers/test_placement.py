"""What is forecast of a lowered network, against what its runtime says that it does."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from edgekit import plugins
from edgekit.spec import Placement, Precision, SessionOptions

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
"""Integer weights alone: see tests/lower/test_weight_only.py."""
Lower = Callable[..., Any]

pytestmark = [
    pytest.mark.slow,  # beside `test_compilers`, which lowers the same, it costs seconds
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

every = pytest.mark.parametrize("precision", PRECISIONS)


def placed(lower: Lower, backend: str, precision: Precision) -> tuple[Placement, str]:
    """The placement of a small SqueezeNet, and what its session says."""
    made = lower(backend, "squeezenet1_1", precision)
    return plugins.placer(backend)(made.model, SessionOptions()), made.session.notes[0]


def taken(found: Placement) -> int:
    return sum(op.partition >= 0 for op in found.operators)


@every
def test_every_backend_tells(lower: Lower, precision: Precision) -> None:
    for backend in plugins.backends():
        found, _ = placed(lower, backend, precision)
        assert len(found.operators) > 30
        assert all(bool(op.reason) == (op.partition < 0) for op in found.operators)
        numbers = {op.partition for op in found.operators if op.partition >= 0}
        assert numbers == set(range(found.partitions))


@every
@pytest.mark.parametrize("backend", ["executorch", "litert"])
def test_the_delegate_runs_what_was_forecast(
    lower: Lower, backend: str, precision: Precision
) -> None:
    found, note = placed(lower, backend, precision)
    said = re.search(r"runs? (\d+) of (\d+) operators", note)
    assert said is not None, note
    assert (taken(found), len(found.operators)) == (int(said[1]), int(said[2]))
    assert (found.accelerator, found.partitions, found.fallen) == ("XNNPACK", 1, ())


@every
def test_openvino_computes_in_float_what_was_forecast(lower: Lower, precision: Precision) -> None:
    found, note = placed(lower, "openvino", precision)
    assert found.fallen == ()
    if precision == "int8":
        in_float = note.partition("in f32: ")[2].partition(";")[0]
        ran = re.findall(r"(?:Convolution|FullyConnected|MatMul) (\d+)", in_float)
        weighted = [op for op in found.operators if op.border and op.kind == "Conv"]
        assert sum(map(int, ran)) == len(weighted) == 1, note


def test_the_neural_engine_wants_float16(lower: Lower) -> None:
    found, _ = placed(lower, "coreml", "fp16")
    assert (found.fallen, found.partitions) == ((), 1)
    assert "forecast" in found.basis
    found, _ = placed(lower, "coreml", "fp32")
    assert taken(found) == 0
    assert {op.reason for op in found.fallen} == {
        "it computes in float32; the Neural Engine computes in float16"
    }


def test_core_ml_is_asked_about_the_units_it_may_use(lower: Lower) -> None:
    model = lower("coreml", "squeezenet1_1", "fp32").model
    place = plugins.placer("coreml")
    for units, accelerator in (("cpu_and_gpu", "the GPU"), ("cpu_only", "the CPU")):
        found = place(model, SessionOptions(compute_units=units))  # type: ignore[arg-type]
        assert (found.accelerator, found.fallen) == (accelerator, ())
