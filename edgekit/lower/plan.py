"""What the user asked for -> a plan with every choice made."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from edgekit import plugins
from edgekit.errors import UnknownName
from edgekit.spec import (
    PRECISIONS,
    Compile,
    ImageSpec,
    Load,
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
    labels: Path | None = None
    image: ImageSpec | None = None
    backend: str | None = None
    precision: str | None = None
    calibration: Path | None = None
    out: Path | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A request with every choice made and both halves of the backend found."""

    target: Target
    precision: Precision
    compile: Compile
    load: Load
    options: dict[str, str | int | float | bool]
    session: SessionOptions


def make_plan(request: Request) -> Plan:
    """Find the target, its backend and precision; an unknown name suggests the nearest."""
    target = plugins.target(request.target)
    precision = request.precision or target.precision
    if precision not in PRECISIONS:
        raise UnknownName("precision", precision, PRECISIONS)
    options, session = dict(target.options or {}), target.session
    if request.backend is not None and request.backend != target.backend:
        options, session = {}, SessionOptions(threads=session.threads)
    session = (
        dataclasses.replace(session, fp16=precision != "fp32", int8=precision == "int8")
        if "TensorrtExecutionProvider" in session.providers
        else session
    )
    name = request.backend or target.backend
    return Plan(
        target=dataclasses.replace(target, backend=name),
        precision=precision,
        compile=plugins.compiler(name),
        load=plugins.loader(name),
        options=options,
        session=session,
    )
