"""What the user asked for -> a plan with every choice made."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit import plugins
from edgekit.errors import InputError, UnknownName
from edgekit.lower import dynamic
from edgekit.lower.dynamic import Dynamic
from edgekit.lower.int8 import weight_only
from edgekit.lower.int8.quantise import USUAL, Ptq
from edgekit.lower.network import Argument
from edgekit.spec import (
    PRECISIONS,
    Compile,
    ImageSpec,
    Load,
    Other,
    Precision,
    SessionOptions,
    Target,
)


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for; None leaves it to the target or the checkpoint."""

    target: str
    model: str | None = None
    weights: str | None = None
    arguments: Mapping[str, Argument] | None = None
    """Of the architecture, where there is no card, or the card is to be overruled."""
    labels: Path | None = None
    image: ImageSpec | None = None
    backend: str | None = None
    options: Mapping[str, str | int | float | bool] | None = None
    """Compiler options, over those of the target's file."""
    precision: str | None = None
    calibration: Path | None = None
    ptq: Ptq = USUAL
    max_drop: float | None = None
    """Percent points of top-1 that int8 may cost, on the images of `evaluate`."""
    evaluate: Path | None = None
    """Labelled images."""
    out: Path | None = None
    force: bool = False
    no_fallback: bool = False
    """Refuse a model of which the target's accelerator does not take all."""
    dynamic: str = ""
    """`batch`: the model file takes any number of images; the bundle's session takes one."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A request with every choice made and both halves of the backend found."""

    target: Target
    precision: Precision
    compile: Compile
    load: Load
    options: dict[str, str | int | float | bool]
    session: SessionOptions
    ptq: Ptq
    dynamic: Dynamic = ""
    limited: bool = False
    """Whether what int8 may cost has a limit (`max_drop`)."""


def make_plan(request: Request) -> Plan:
    """Find the target, its backend and precision; an unknown name suggests the nearest."""
    target = plugins.target(request.target)
    precision = request.precision or target.precision
    if precision not in PRECISIONS:
        raise UnknownName("precision", precision, PRECISIONS)
    _check_int8_only(request, precision)
    name = request.backend or target.backend
    scheme, session, options, loop = target.scheme, target.session, target.options, target.loop
    if name != target.backend:
        other = (target.other or {}).get(name, Other(session=SessionOptions(session.threads)))
        scheme, session, options, loop = other.scheme, other.session, other.options, other.loop
    session = (
        dataclasses.replace(session, fp16=precision in ("fp16", "int8"), int8=precision == "int8")
        if "TensorrtExecutionProvider" in session.providers
        else session
    )
    weight_only.check(precision, name, session.providers)
    return Plan(
        target=dataclasses.replace(target, backend=name, scheme=scheme, loop=loop),
        precision=precision,
        compile=plugins.compiler(name),
        load=plugins.loader(name),
        options={**(options or {}), **(request.options or {})},
        session=session,
        ptq=request.ptq,
        dynamic=dynamic.check(request.dynamic, name, session.providers),
        limited=request.max_drop is not None,
    )


def _check_int8_only(request: Request, precision: Precision) -> None:
    """Refuse what only int8 has a use for."""
    if precision != "int8" and (request.ptq != USUAL or request.max_drop is not None):
        raise InputError(
            f"--observer, --correct-bias, --keep-float and --max-drop are for int8, and this build "
            f"is {precision}: leave them out, or add --precision int8"
        )
    if (request.max_drop is None) != (request.evaluate is None):
        raise InputError(
            "--max-drop POINTS and --evaluate DIR go together: the drop is measured on labelled "
            "images"
        )


def parse_arguments(given: Sequence[str], option: str = "--argument") -> dict[str, Argument]:
    """`["width_mult=0.5"]` -> `{"width_mult": 0.5}`; a value that is no number or boolean is text.

    Raises:
        InputError: one of them is not NAME=VALUE.
    """
    found: dict[str, Argument] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name.isidentifier() or not equals:
            example = "width_mult=0.5" if option == "--argument" else "opset=18"
            raise InputError(f"'{text}' is not NAME=VALUE, as in {option} {example}")
        try:
            parsed = json.loads(value, parse_constant=str)  # NaN is text: a manifest has no NaN
        except ValueError:
            parsed = value
        found[name] = parsed if isinstance(parsed, int | float | bool) else value
    return found
