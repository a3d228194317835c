"""Networks that a trace cannot hold: what they do, and the line that does it.

A trace follows one run. What a network would do otherwise on another image, or the next time, is
lost without a sign, so it is looked for: control flow that depends on the values of a tensor, an
answer that is another one when the same image comes again, a buffer that forward() writes.
"""

import hashlib
import linecache
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from edgekit.errors import SpecError

SAME = 1e-5
"""How far, over the largest logit, two runs on one image may be apart."""

_ROOT = Path(__file__).resolve().parents[1]
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_DEPENDENT = re.compile(r"data-dependent|DataDependent|dynamic shape operator|\.numpy\(\) is not")

Calls = list[tuple[str, str, str]]
"""Of each module's call, in the order of their ends: its name, and digests of inputs and output."""


def check_repeatable(network: nn.Module, planes: Sequence[np.ndarray]) -> None:
    """Run twice on each image: the answers must be the same, and nothing in the network changed.

    Args:
        network: normalised (1, 3, H, W) float32 -> (1, classes), in eval mode.
        planes: (1, 3, H, W) float32 each; a few.

    Raises:
        SpecError: names what changed or the first module that answers otherwise, and the line.
    """
    before = _state(network)
    with torch.inference_mode():
        for x in map(torch.from_numpy, planes):
            first, second = network(x.clone()), network(x.clone())  # it may write into its input
            after = _state(network)
            if after != before:
                changed = min(name for name, value in after.items() if before.get(name) != value)
                raise SpecError(_says_state(network, changed, x))
            if not _same(first, second):
                raise SpecError(_says_random(network, x))


def check_program(program: ExportedProgram) -> None:
    """Refuse an operator that draws random numbers: dropout that is left on, above all.

    Raises:
        SpecError: names the operator and the line.
    """
    for node in program.graph.nodes:
        if _is_random(node):
            raise SpecError(
                f"{where(node)}forward() draws random numbers ({node.target}): a device would "
                f"answer otherwise each time; {_ADVICE}"
            )


def explain(cause: Exception) -> str:
    """What torch.export could not trace, in one line, with the line of the user's that it met."""
    place = _user_line(
        [(f.filename, f.lineno or 0) for f in traceback.extract_tb(cause.__traceback__)]
    )
    said = [line for line in str(cause).strip().splitlines() if line] or [""]
    if _DEPENDENT.search(f"{type(cause).__name__} {cause}"):
        return (
            f"{place}the network's control flow depends on the values of a tensor; a device runs "
            "one program for every image: choose with torch.where instead, or branch on shapes only"
        )
    return (
        f"{place}{type(cause).__name__}: {said[0]}; rewrite that line so that "
        "torch.export.export alone takes the network"
    )


def where(node: fx.Node) -> str:
    """`pkg/net.py:12: if x.sum() > 0: ` for the line of the user's that made `node`, or nothing."""
    frames = _FRAME.findall(str(node.meta.get("stack_trace") or ""))
    return _user_line([(file, int(line)) for file, line in frames])


_ADVICE = (
    "leave to chance nothing in eval mode (as in F.dropout(x, training=self.training)), "
    "keep nothing from image to image, and build again"
)


def _user_line(frames: Sequence[tuple[str, int]]) -> str:
    """The innermost frame that is neither torch's nor ours; its path from the current folder."""
    torch_root = Path(torch.__file__).resolve().parent
    for name, line in reversed(frames):
        path = Path(name)
        inside = [root for root in (torch_root, _ROOT) if root in path.resolve().parents]
        if not inside and path.is_file():
            shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
            return f"{shown}:{line}: `{linecache.getline(name, line).strip()}`: "
    return ""


def _state(module: nn.Module) -> Mapping[str, str]:
    """Digests of all weights and buffers, and which parts are in training mode."""
    values = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    modes = {f"{name}.training".lstrip("."): str(m.training) for name, m in module.named_modules()}
    return {name: _digest(value) for name, value in values.items()} | modes


def _same(first: object, second: object) -> bool:
    assert isinstance(first, Tensor)  # `load.count_classes` has seen to it
    assert isinstance(second, Tensor)
    if first.shape != second.shape:
        return False
    allowed = SAME * float(first.abs().max()) if first.numel() else 0.0
    return torch.allclose(first, second, rtol=0, atol=allowed, equal_nan=True)


def _says_state(network: nn.Module, name: str, x: Tensor) -> str:
    place, part = _traced_line(network, x, _writes), name.removesuffix(".training")
    what = f"changes '{name}'" if part == name else f"puts '{part}' into training mode"
    return (
        f"{place}forward() {what}: on a device a network keeps nothing from one image to the next; "
        "leave that out in eval mode (batch norm: training=self.training), and build again"
    )


def _says_random(network: nn.Module, x: Tensor) -> str:
    """The first module, in the order of their ends, that makes another output of the same input."""
    place = _traced_line(network, x, _is_random)
    both = zip(_calls(network, x), _calls(network, x), strict=False)
    name = next((one[0] for one, two in both if one[:2] == two[:2] and one != two), "")
    kind = type(network.get_submodule(name)).__name__
    what = f"the first module that differs is '{name}' ({kind})" if name else f"in {kind}.forward()"
    return (
        f"{place}the network answers otherwise when the same image comes again: {what}; {_ADVICE}"
    )


def _calls(network: nn.Module, x: Tensor) -> Calls:
    calls: Calls = []
    given: list[str] = []
    handles = []
    for name, part in network.named_modules():
        handles.append(part.register_forward_pre_hook(lambda _m, i: given.append(_digest(i))))
        handles.append(
            part.register_forward_hook(
                lambda _m, _i, output, name=name: calls.append((name, given.pop(), _digest(output)))
            )
        )
    try:
        with torch.inference_mode():
            network(x.clone())
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _digest(value: Any) -> str:
    """Of the numbers of a tensor, or of all tensors in a sequence."""
    digest = hashlib.sha256()
    for tensor in value if isinstance(value, (list, tuple)) else (value,):
        if isinstance(tensor, Tensor):
            flat = tensor.detach().contiguous().flatten()
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _traced_line(network: nn.Module, x: Tensor, wanted: Callable[[fx.Node], bool]) -> str:
    """The user's line of the first operator that is `wanted`, where the network can be traced."""
    try:
        program = torch.export.export(network, (x.clone(),))
    except Exception:  # then the module that was found has to do
        return ""
    return next((where(node) for node in program.graph.nodes if wanted(node)), "")


def _is_random(node: fx.Node) -> bool:
    if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return False
    if node.target is torch.ops.aten.scaled_dot_product_attention.default:
        return bool(node.args[4] if len(node.args) > 4 else node.kwargs.get("dropout_p", 0.0))
    off = node.args[2:] == (False,) or node.args[1:2] in ((0,), (0.0,))  # of dropout(x, p, train)
    return "dropout" not in str(node.target) or not off


def _writes(node: fx.Node) -> bool:
    """Batch norm in training mode, or an operator in place on a weight or a buffer."""
    if node.target is torch.ops.aten.batch_norm.default:
        return node.args[5] is True
    mutable = isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable
    source = node.args[0] if node.args else None
    held = isinstance(source, fx.Node) and source.op == "placeholder"
    return mutable and held and str(getattr(source, "target", "")).startswith(("b_", "p_", "c_"))
