"""Strict reading of TOML and JSON.

The classes below have their annotations as strings, as a module with the `__future__` import has.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import BundleError, SpecError
from edgekit.values import (
    _adapter,
    _plain,
    _Unsure,
    json_value,
    parse,
    read_json,
    read_toml,
    to_json,
    toml_mapping,
)


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: float = 0.0


@dataclass(frozen=True, slots=True)
class Shape:
    name: str
    kind: Literal["open", "closed"]
    points: tuple[Point, ...]
    centre: Point | None = None
    named: Mapping[str, Point] | None = None
    size: tuple[int, int] = (1, 1)
    options: Mapping[str, int | float | str | bool] | None = None


GOOD: dict[str, Any] = {"name": "a", "kind": "open", "points": [{"x": 1}, {"x": 2, "y": 3}]}


def test_nested_values_are_made() -> None:
    found = parse(Shape, GOOD, "x")
    assert found == Shape("a", "open", (Point(1), Point(2, 3.0)))
    assert type(found.points[1].y) is float


def test_options_keep_their_types() -> None:
    options = {"a": 1, "b": 1.0, "c": True, "d": "1"}
    found = parse(Shape, GOOD | {"options": options}, "x").options
    assert found is not None
    assert [type(value) for value in found.values()] == [int, float, bool, str]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "unknown key 'colour'; valid keys are: centre, kind, name, named"),
        ({"points": [{"x": 1, "z": 1}]}, "unknown key 'points.0.z'; valid keys are: x, y$"),
        ({"centre": {"x": 1, "z": 1}}, "unknown key 'centre.z'; valid keys are: x, y$"),
        ({"named": {"a": {"x": 1, "z": 1}}}, "unknown key 'named.a.z'; valid keys are: x, y$"),
        ({"points": [{"y": 1.0}]}, r"key 'points\.0\.x' is missing"),
        ({"points": [{"x": "1"}]}, r"'points\.0\.x': input should be a valid integer, got '1'"),
        ({"points": [{"x": True}]}, "valid integer, got True"),
        ({"points": [{"x": 1.5}]}, "valid integer, got 1.5"),
        ({"points": {"x": 1}}, "'points': input should be a valid array"),
        ({"points": [{"x": 1, "y": float("nan")}]}, "finite number"),
        ({"name": 3}, "'name': input should be a valid string, got 3"),
        ({"kind": "opne"}, "'kind': input should be 'open' or 'closed', got 'opne'"),
        ({"size": [1, 2, 3]}, "'size'"),
        ({"options": {"a": [1]}}, r"'options\.a"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=r"^shape\.toml: .*" + message):
        parse(Shape, GOOD | change, "shape.toml")


@pytest.mark.parametrize("value", [None, 3, "x", [], [GOOD]])
def test_what_is_no_mapping_is_refused(value: Any) -> None:
    with pytest.raises(BundleError, match=r"^x: .*got"):
        parse(Shape, value, "x", BundleError)


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(SpecError) as caught:
        parse(Shape, GOOD | {"size": "x" * 100_000}, "x")
    assert len(str(caught.value)) < 300


@given(
    st.builds(
        Shape,
        name=st.text(),
        kind=st.sampled_from(["open", "closed"]),
        points=st.lists(
            st.builds(Point, st.integers(), st.floats(allow_nan=False, allow_infinity=False))
        ).map(tuple),
        centre=st.none() | st.builds(Point, st.integers()),
    )
)
def test_json_gives_back_what_was_written(value: Shape) -> None:
    text = to_json(value)
    assert parse(Shape, json_value(text.encode(), "x"), "x") == value
    assert to_json(parse(Shape, json_value(text.encode(), "x"), "x")) == text


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.sampled_from(["open", "closed", "", "\u00e9", "\ud800"])
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["x", "y", "a", "\udfff"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.sampled_from(["name", "kind", "points", "centre", "named", "size", "options"]), ANYTHING)
def test_what_is_taken_without_pydantic_is_what_pydantic_gives(key: str, value: Any) -> None:
    mapping = GOOD | {key: value}
    try:
        found = _plain(Shape, mapping)
    except _Unsure:
        return
    judged = _adapter(Shape).validate_json(json.dumps(mapping))
    assert repr(found) == repr(judged)  # the types of numbers, too


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"centre": {"x": 1, "y": 2}, "named": {"a": {"x": -1}}, "size": [3, 4]},
        {"options": {"a": 1, "b": 1.5, "c": True, "d": "\u00e9"}},
    ],
)
def test_what_is_right_is_taken_without_pydantic(change: dict[str, Any]) -> None:
    assert _plain(Shape, GOOD | change) == parse(Shape, GOOD | change, "x")


def test_json_bytes_stay_what_they_are() -> None:
    assert to_json(Point(1, 0.1)) == '{\n  "x": 1,\n  "y": 0.1\n}\n'
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json(Point(1, float("inf")))


@given(st.binary())
def test_any_bytes_are_json_or_refused(text: bytes) -> None:
    try:
        json_value(text, "x")
    except SpecError as error:
        assert str(error).startswith("x is not JSON")  # noqa: PT017


def test_files_are_read_or_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "point.toml"
    path.write_text("x = 1\ny = 2\n")
    assert read_toml(Point, path) == Point(1, 2.0)
    assert toml_mapping(path) == {"x": 1, "y": 2}
    for content in (b"x = ", b"\xff", b"x = " + b"[" * 5000):
        path.write_bytes(content)
        with pytest.raises(SpecError, match=r"point\.toml"):
            read_toml(Point, path)
    path.write_text("x = 1979-05-27\n")
    with pytest.raises(SpecError, match="valid integer, got '1979-05-27'"):
        read_toml(Point, path)
    path.write_text('{"x": 1}')
    assert read_json(Point, path) == Point(1)
    for content in (b"{", b"\xff", b"[" * 100_000, b'{"x": 1, "x": 2}', b'{"x": Infinity}'):
        path.write_bytes(content)
        with pytest.raises(SpecError, match=r"point\.toml"):
            read_json(Point, path)
    for read in (read_toml, read_json):
        with pytest.raises(SpecError, match=r"cannot read .*: No such file"):
            read(Point, tmp_path / "absent")


def test_python_310_reads_toml_with_tomli() -> None:
    """`tomllib` came with 3.11; the device half also runs on the 3.10 of JetPack 6."""
    pytest.importorskip("tomli")
    program = (
        "import sys; sys.version_info = (3, 10, 12, 'final', 0); sys.modules['tomllib'] = None\n"
        "from pathlib import Path; from edgekit import plugins; plugins.target('linux')\n"
        "assert 'tomli' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
