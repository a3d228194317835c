import pytest

from edgekit import plugins
from edgekit.errors import InputError, UnknownName
from edgekit.lower.plan import Request, make_plan, parse_arguments
from edgekit.spec import PRECISIONS, WEIGHT_ONLY


@pytest.mark.parametrize("name", plugins.targets())
def test_every_target_can_be_planned_at_every_precision(name: str) -> None:
    default = make_plan(Request(name))
    assert default.target == plugins.target(name)
    assert default.precision == default.target.precision
    for precision in PRECISIONS:
        if name == "jetson" and precision in WEIGHT_ONLY:
            continue  # see test_weight_only
        assert make_plan(Request(name, precision=precision)).precision == precision


def test_another_backend_brings_none_of_the_targets_settings() -> None:
    target = plugins.target("linux")
    assert target.options
    assert target.session.providers
    plan = make_plan(Request("linux", backend="litert"))
    assert plan.target.backend == "litert"
    assert plan.compile is plugins.compiler("litert")
    assert plan.load is plugins.loader("litert")
    assert plan.options == {}
    assert plan.session.providers == ()
    assert make_plan(Request("linux", backend="onnx")).options == target.options


@pytest.mark.parametrize(
    ("precision", "fp16", "int8"),
    [("fp32", False, False), ("fp16", True, False), ("int8", True, True)],
)
def test_tensorrt_is_allowed_what_the_precision_says(
    precision: str, fp16: bool, int8: bool
) -> None:
    session = make_plan(Request("jetson", precision=precision)).session
    assert (session.fp16, session.int8) == (fp16, int8)
    elsewhere = make_plan(Request("linux", precision=precision)).session
    assert (elsewhere.fp16, elsewhere.int8) == (False, False)


def test_unknown_names() -> None:
    for request in (Request("x"), Request("linux", backend="x"), Request("linux", precision="x")):
        with pytest.raises(UnknownName, match="'x'"):
            make_plan(request)


def test_arguments_have_the_types_that_they_look_like() -> None:
    found = parse_arguments(["a=0.5", "b=3", "c=true", "d=text", "e=", "f=[1]", "g=x=y", "h=null"])
    assert found == {
        **{"a": 0.5, "b": 3, "c": True, "d": "text", "e": "", "f": "[1]", "g": "x=y", "h": "null"}
    }
    assert type(found["b"]) is int
    assert found["c"] is True
    assert parse_arguments([]) == {}


@pytest.mark.parametrize("text", ["", "width_mult", "=3", "width mult=3", "3=3"])
def test_an_argument_that_is_none(text: str) -> None:
    with pytest.raises(InputError, match="NAME=VALUE"):
        parse_arguments([text])
