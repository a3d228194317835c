"""What a toolkit refuses, in the user's words: the operator, their own line, and a way out.

Converters name an operator in ten ways, deep in a chain of errors, or only what they had made of
it. Their words are searched for the operators of the program that was given to them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import fx
from torch.export import ExportedProgram

from edgekit import plugins
from edgekit.errors import EdgekitError, MissingPackage, SpecError, StorageError
from edgekit.lower.gate.tracing import where
from edgekit.lower.plan import Plan

LONGEST = 240
"""Characters of a toolkit's own words that are passed on."""

TRACES: Mapping[str, tuple[str, ...]] = {
    "sort": ("topk", "sort", "argsort"),
    "mhlo.convolution": ("conv_transpose2d", "conv_transpose1d", "conv3d", "conv2d"),
    "transpose": ("permute", "transpose"),
    "broadcast": ("expand", "expand_as"),
    "gather": ("index", "gather", "index_select", "embedding"),
    "reduce_window": ("max_pool2d", "avg_pool2d", "cumsum"),
}
"""What a converter had made of an operator when it gave up -> which operators become that."""

INSTEAD: Mapping[str, str] = {
    "topk": "write x.amax(-1), or the mean, where the strongest few are wanted",
    "sort": "write x.amax(-1), or the mean, where the strongest few are wanted",
    "conv_transpose2d": "write F.interpolate(x, scale_factor=2) and a convolution",
    "adaptive_avg_pool2d": "pool to a size that divides the map evenly, as in AdaptiveAvgPool2d(1)",
    "adaptive_max_pool2d": "pool to a size that divides the map evenly, as in AdaptiveMaxPool2d(1)",
    "grid_sampler": "crop and resize before the network, in the image contract",
    "grid_sampler_2d": "crop and resize before the network, in the image contract",
    "upsample_bicubic2d": "write F.interpolate(x, mode='bilinear')",
    "lstm": "write the recurrence as convolutions along the axis",
    "gru": "write the recurrence as convolutions along the axis",
}
FOREIGN = re.compile(r"aten|cannot (?:convert|export|read|run)|does not know")
"""What a toolkit said comes without its error where it ran in a process of its own."""
COMPLEX = "write the transform as a product with its real matrices (torch.fft of a buffer, once)"


@contextmanager
def says_why(plan: Plan, program: ExportedProgram) -> Iterator[None]:
    """While the block lowers or loads `program`, a foreign error becomes one that helps.

    Raises:
        SpecError: names the operator, the user's line and a way out, as far as can be told.
    """
    try:
        yield
    except (OSError, MissingPackage, StorageError):
        raise
    except EdgekitError as error:
        if error.__cause__ is None and not FOREIGN.search(str(error)):
            raise  # our own words already: an option, a target's rule
        raise refusal(plan, program, error) from error
    except Exception as error:  # toolkits raise many kinds
        raise refusal(plan, program, error) from error


def refusal(plan: Plan, program: ExportedProgram, error: Exception) -> SpecError:
    """The error to raise for `error`, which `plan.target.backend` gave for `program`."""
    node = culprit(program.graph, "\n".join(_words(error)))
    what = "this network" if node is None else _base(node)
    if node is None and (node := _suspect(program.graph)) is not None:
        what = f"this network, perhaps because of {_base(node)}"
    place = "" if node is None else where(node)
    ways = "; ".join(_ways_out(plan, node))
    return SpecError(f"{place}{plan.target.backend} cannot take {what}: {_short(error)}; {ways}")


def culprit(graph: fx.Graph, words: str) -> fx.Node | None:
    """The first operator of the user's that `words` speak of; None if they name none."""
    theirs = _theirs(graph)
    for pattern in (
        r"\b{target}\b",
        r"\baten(?:\.|::){base}\b",
        r"(?:\bnode[_ ]|%|['\"]){name}\b",
        r"['\"]{base}['\"]",
    ):
        for node in theirs:
            parts = {"target": str(node.target), "base": _base(node), "name": node.name}
            text = pattern.format(**{key: re.escape(part) for key, part in parts.items()})
            if re.search(text, words):
                return node
    if re.search(r"complex|_fft_", words, re.IGNORECASE):
        return next((node for node in theirs if _is_complex(node)), None)
    for trace, operators in TRACES.items():
        if re.search(rf"{re.escape(trace)}", words, re.IGNORECASE):
            found = [n for base in operators for n in theirs if _base(n) == base]
            if found:
                return found[0]
    return None


def _suspect(graph: fx.Graph) -> fx.Node | None:
    """Where the toolkit names nothing: the first operator that is often refused."""
    return next((n for n in _theirs(graph) if _base(n) in INSTEAD or _is_complex(n)), None)


def _ways_out(plan: Plan, node: fx.Node | None) -> Iterable[str]:
    if node is not None and (_is_complex(node) or _base(node) in INSTEAD):
        yield COMPLEX if _is_complex(node) else INSTEAD[_base(node)]
    target = plugins.target(plan.target.name)
    others = {target.backend, *(target.other or {})} - {plan.target.backend}
    if not others and plan.target.backend != "onnx":
        others = {"onnx"}  # takes most, and runs on any CPU
    if others:
        yield f"or try another backend: --backend {' or '.join(sorted(others))}"
    if plan.precision == "int8":
        yield "or --precision fp32, where it may be taken"


def _theirs(graph: fx.Graph) -> list[fx.Node]:
    """The operators that a line of the user's made; quantising them is ours."""
    called = [n for n in graph.nodes if n.op == "call_function" and "quantize" not in n.name]
    return [node for node in called if where(node)]


def _base(node: fx.Node) -> str:
    """`topk` of `aten.topk.default`."""
    return str(node.target).removeprefix("aten.").partition(".")[0]


def _is_complex(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype.is_complex


def _words(error: BaseException | None) -> Iterator[str]:
    """What each error of the chain says, the outermost first."""
    while error is not None:
        yield f"{type(error).__name__}: {error}"
        error = error.__cause__ or error.__context__


def _short(error: Exception) -> str:
    """The first line, without paths to files that are gone by then."""
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    line = re.sub(r"(?<![\w.])(?:/[\w.+-]+)+/([\w.+-]+)", r"\1", line.strip())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."
