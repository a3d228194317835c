"""Mappings from TOML or JSON -> one tree of frozen dataclasses, strictly.

An unknown key, a missing key or a wrong type is an error that names the place and what is valid.
Nothing is converted on the way but an integer to a float where a float is wanted: `"8"` is not 8.
"""

import dataclasses
import json
import reprlib
import sys
import typing
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from edgekit.errors import EdgekitError, SpecError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def parse(cls: type[T], mapping: Any, source: str, error: type[EdgekitError] = SpecError) -> T:
    """Make a `cls` of `mapping`; `source` names the file in the error that is raised.

    Args:
        cls: a dataclass; its fields may be dataclasses, tuples and mappings of them, literals.
        mapping: what a TOML or JSON reader returned: dicts, lists, strings, numbers.
        source: how the error calls it.
        error: the class of the error.
    """
    try:
        # Through JSON, because only there do pydantic's strict rules take a list for a tuple.
        value: T = _adapter(typing.cast(Any, cls)).validate_json(json.dumps(mapping, default=str))
    except ValidationError as cause:
        raise error(f"{source}: {_explain(cause, cls)}") from cause
    except RecursionError as cause:
        raise error(f"{source} is nested too deeply to be one of ours") from cause
    return value


def read_toml(cls: type[T], path: Path, error: type[EdgekitError] = SpecError) -> T:
    """Read one TOML file into a `cls`."""
    return parse(cls, toml_mapping(path, error), str(path), error)


def read_json(cls: type[T], path: Path, error: type[EdgekitError] = SpecError) -> T:
    """Read one JSON file into a `cls`."""
    try:
        text = path.read_bytes()
    except OSError as cause:
        raise error(f"cannot read {path}: {cause.strerror}") from cause
    return parse(cls, json_value(text, str(path), error), str(path), error)


def toml_mapping(path: Path, error: type[EdgekitError] = SpecError) -> dict[str, Any]:
    """Read one TOML file as it is, without a class to hold it to."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as cause:
        raise error(f"cannot read {path}: {cause.strerror}") from cause
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
        raise error(f"{path} is not TOML: {cause}") from cause
    except RecursionError as cause:
        raise error(f"{path} is nested too deeply to be one of ours") from cause


def json_value(text: bytes, source: str, error: type[EdgekitError] = SpecError) -> Any:
    """Decode JSON strictly: UTF-8, no key twice, no NaN or infinity."""
    try:
        return json.loads(
            text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except ValueError as cause:  # JSONDecodeError and UnicodeDecodeError are ValueErrors too
        raise error(f"{source} is not JSON: {cause}") from cause
    except RecursionError as cause:
        raise error(f"{source} is nested too deeply to be one of ours") from cause


def to_json(value: Any) -> str:
    """The one JSON form of a dataclass: sorted keys, two spaces, a final newline, no NaN.

    Equal values give equal text, byte for byte, in every process.
    """
    plain = dataclasses.asdict(value)
    text = json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text + "\n"


@cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    _make_strict(cls)
    return TypeAdapter(cls)


def _make_strict(annotation: Any) -> None:
    """Set pydantic's rules on a dataclass and on those in its fields, however deep.

    `TypeAdapter` takes no configuration for a dataclass, and a nested one does not inherit it.
    """
    for inner in typing.get_args(annotation):
        _make_strict(inner)
    if _is_dataclass(annotation) and "__pydantic_config__" not in vars(annotation):
        annotation.__pydantic_config__ = STRICT
        for hint in _hints(annotation).values():
            _make_strict(hint)


def _is_dataclass(annotation: Any) -> bool:
    return isinstance(annotation, type) and dataclasses.is_dataclass(annotation)


def _hints(cls: Any) -> dict[str, Any]:
    """Annotations of the fields, resolved also where they were written as strings."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key '{twice}' stands twice in one object")
    return mapping


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number that JSON knows")


def _explain(cause: ValidationError, cls: type[Any]) -> str:
    """One sentence for the first error; the place is written as `files.0.path`."""
    first = cause.errors(include_url=False)[0]
    loc = first["loc"]
    place = ".".join(str(part) for part in loc)
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"unknown key '{place}'; valid keys are: {', '.join(_keys(cls, loc[:-1]))}"
    if first["type"] in ("missing", "missing_argument"):
        return f"key '{place}' is missing"
    message = first["msg"][:1].lower() + first["msg"][1:]
    return f"{f'{place!r}' if place else 'it'}: {message}, got {reprlib.repr(first['input'])}"


def _keys(cls: Any, loc: Iterable[int | str]) -> list[str]:
    """The keys that are valid at `loc`, a path of field names, indices and union branches."""
    inside = [cls]
    for part in loc:
        inside = [step for annotation in inside for step in _steps(annotation, part)] or inside
    return sorted({name for each in inside for found in _classes(each) for name in _hints(found)})


def _steps(annotation: Any, part: int | str) -> list[Any]:
    """The annotations found by going from `annotation` into its `part`."""
    if _is_dataclass(annotation):
        return [hint for name, hint in _hints(annotation).items() if name == part]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return [arguments[1]]
    if isinstance(part, int):
        return list(arguments)
    return [step for inner in arguments for step in _steps(inner, part)]


def _classes(annotation: Any) -> list[Any]:
    if _is_dataclass(annotation):
        return [annotation]
    return [found for inner in typing.get_args(annotation) for found in _classes(inner)]
