"""What `json://` writes is what `docs/result.schema.json` says."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edgekit.device.copies import Copies
from edgekit.device.result import Result
from edgekit.device.stats import Stats, as_json
from edgekit.device.uri import open_output

Make = Callable[..., Result]
Schema = dict[str, Any]

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,),
    "number": (int, float),
}  # fmt: skip
KNOWN = {
    "$schema", "title", "description", "oneOf", "$defs", "$ref", "type", "required", "properties",
    "additionalProperties", "items", "minimum", "maximum",
}  # fmt: skip


def problems(value: Any, schema: Schema, root: Schema, at: str = "line") -> list[str]:
    """Where `value` is not as `schema` says; a key that it does not describe is a problem, too."""
    assert set(schema) <= KNOWN, "this check knows no more of JSON Schema than the file uses"
    if "$ref" in schema:
        return problems(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, at)
    if "oneOf" in schema:
        every = [problems(value, each, root, at) for each in schema["oneOf"]]
        return [] if every.count([]) == 1 else min(every, key=len) or [f"{at}: fits several"]
    if not isinstance(value, TYPES[schema["type"]]) or isinstance(value, bool):
        return [f"{at}: {value!r} is not of type {schema['type']}"]
    found = []
    if "minimum" in schema and value < schema["minimum"]:
        found.append(f"{at}: {value} is below {schema['minimum']}")
    if "maximum" in schema and value > schema["maximum"]:
        found.append(f"{at}: {value} is above {schema['maximum']}")
    if isinstance(value, list):
        for number, item in enumerate(value):
            found += problems(item, schema["items"], root, f"{at}[{number}]")
    if isinstance(value, dict):
        found += [f"{at}: no {key}" for key in schema.get("required", ()) if key not in value]
        for key, item in value.items():
            each = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
            if each is None:
                found.append(f"{at}: {key} is not described")
            else:
                found += problems(item, each, root, f"{at}.{key}")
    return found


@pytest.fixture(scope="module")
def schema(root: Path) -> Schema:
    read: Schema = json.loads((root / "docs" / "result.schema.json").read_text(encoding="utf-8"))
    return read


def test_each_line_is_as_described(schema: Schema, make_result: Make, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with closing(open_output(f"json://{path}", Copies())) as output:
        for number in range(3):
            output.write(make_result(number))
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    for line in lines:
        assert problems(json.loads(line), schema, schema) == []


def test_the_last_line_is_as_described(schema: Schema, make_result: Make) -> None:
    stats = Stats()
    for number in range(3):
        stats.answered(make_result(number).frame)
    stats.copies.add("input", "resize", 100)
    line = json.loads(as_json({("synthetic://", "model"): stats.summary()}))
    assert line["summary"][0]["frames"] == 3
    assert problems(line, schema, schema) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"frame": "1"}, "line.frame: '1' is not of type integer"),
        ({"frame": -1}, "line.frame: -1 is below 0"),
        ({"colour": 1}, "line: colour is not described"),
        ({"predictions": [{"index": 1, "label": "a"}]}, "line.predictions[0]: no probability"),
    ],
)
def test_the_check_sees_what_is_wrong(
    schema: Schema, make_result: Make, change: dict[str, Any], problem: str
) -> None:
    from edgekit.device.outputs.json import as_json as one

    assert problems({**one(make_result()), **change}, schema, schema) == [problem]
