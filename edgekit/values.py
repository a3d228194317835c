"""Mappings from TOML or JSON -> one tree of frozen dataclasses, strictly.

An unknown key, a missing key or a wrong type is an error that names the place and what is valid.
Nothing is converted on the way but an integer to a float where a float is wanted: `"8"` is not 8.

What is right is taken as it is, in a few lines of ours; pydantic is imported only to judge and to
explain the rest. On a device every start reads a manifest, and with pydantic that would take longer
than loading the model.
"""

import dataclasses
import json
import math
import reprlib
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union

from edgekit.errors import EdgekitError, SpecError

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")

_STRICT = {"extra": "forbid", "strict": True, "allow_inf_nan": False}  # pydantic's ConfigDict


def parse(cls: type[T], mapping: Any, source: str, error: type[EdgekitError] = SpecError) -> T:
    """Make a `cls` of `mapping`; `source` names the file in the error that is raised.

    Args:
        cls: a dataclass; its fields may be dataclasses, tuples and mappings of them, literals.
        mapping: what a TOML or JSON reader returned: dicts, lists, strings, numbers.
        source: how the error calls it.
        error: the class of the error.
    """
    try:
        plain: T = _plain(cls, mapping)
        return plain
    except _Unsure:
        pass
    from pydantic import ValidationError

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
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

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


class _Unsure(Exception):
    """A value that is not plainly right: wrong, or of a kind that is left to pydantic."""


def _plain(annotation: Any, value: Any) -> Any:
    """The value that `annotation` asks for, made of one that is exactly right.

    Takes nothing that pydantic's strict rules would refuse, and gives what they would give.

    Raises:
        _Unsure: everything else.
    """
    kind, origin = type(value), typing.get_origin(annotation)
    if annotation is kind and kind in (int, bool, type(None)):
        return value
    if annotation is str and kind is str:
        return _text(value)
    if annotation is float and kind in (int, float):
        return _finite(value)
    if _is_dataclass(annotation) and kind is dict:
        return _object(annotation, value)
    arguments = typing.get_args(annotation)
    if origin is Literal and any(kind is type(known) and value == known for known in arguments):
        return value
    if origin in (Union, types.UnionType):
        return _member(arguments, value)
    if origin is tuple and kind in (list, tuple):
        return _items(arguments, value)
    if origin is Mapping and arguments[0] is str and kind is dict:
        return {_plain(str, key): _plain(arguments[1], inner) for key, inner in value.items()}
    raise _Unsure


def _text(value: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as cause:  # half of a surrogate pair
            raise _Unsure from cause
    return value


def _finite(value: float) -> float:
    try:
        number = float(value)
    except OverflowError as cause:
        raise _Unsure from cause
    if not math.isfinite(number):
        raise _Unsure
    return number


def _object(cls: Any, value: Mapping[Any, Any]) -> Any:
    hints = _hints(cls)
    if not value.keys() <= hints.keys():
        raise _Unsure
    found = {name: _plain(hints[name], inner) for name, inner in value.items()}
    try:
        return cls(**found)
    except TypeError as cause:  # a key is missing
        raise _Unsure from cause


def _member(options: tuple[Any, ...], value: Any) -> Any:
    """Of a union: the type of the value itself, else the only one that takes it."""
    if type(value) in options:
        return _plain(type(value), value)
    made = []
    for option in options:
        try:
            made.append(_plain(option, value))
        except _Unsure:
            continue
    if len(made) != 1:
        raise _Unsure
    return made[0]


def _items(arguments: tuple[Any, ...], value: Iterable[Any]) -> tuple[Any, ...]:
    values = tuple(value)
    if arguments[1:] == (...,):
        return tuple(_plain(arguments[0], item) for item in values)
    if len(arguments) != len(values):
        raise _Unsure
    return tuple(_plain(inner, item) for inner, item in zip(arguments, values, strict=True))


@cache
def _adapter(cls: Any) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    _make_strict(cls)
    return TypeAdapter(cls)


def _make_strict(annotation: Any) -> None:
    """Set pydantic's rules on a dataclass and on those in its fields, however deep.

    `TypeAdapter` takes no configuration for a dataclass, and a nested one does not inherit it.
    """
    for inner in typing.get_args(annotation):
        _make_strict(inner)
    if _is_dataclass(annotation) and "__pydantic_config__" not in vars(annotation):
        annotation.__pydantic_config__ = _STRICT
        for hint in _hints(annotation).values():
            _make_strict(hint)


def _is_dataclass(annotation: Any) -> bool:
    return isinstance(annotation, type) and dataclasses.is_dataclass(annotation)


@cache
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


def _explain(cause: "ValidationError", cls: type[Any]) -> str:
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
