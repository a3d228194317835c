"""Programs whose batch is free: one model file for any number of images at once.

`edgekit build --dynamic batch`. The program is lowered for one image, as any other; then what says
"one" in it is made to say "as many as come", and torch exports it anew and proves that nothing else
does. The bundle's own session goes on running one image; the file, in a server's hands, takes more.

    reshape(x, [1, 64, -1])     ->  reshape(x, [-1, 64, 49])
    expand(x, [1, 8, 4, 4])     ->  expand(x, [-1, 8, 4, 4])
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import fx
from torch.export import Dim, ExportedProgram

from edgekit import plugins
from edgekit.errors import BundleError, InputError, SpecError, UnknownName
from edgekit.lower.gate import parity
from edgekit.lower.gate.tracing import where
from edgekit.manifest import Hop
from edgekit.spec import Precision, Session

Dynamic: TypeAlias = Literal["", "batch"]
Runs: TypeAlias = Callable[[Path, np.ndarray], np.ndarray]
"""(N, H, W, 3) uint8 through a model file -> (N, classes)."""

TRIED = 3
"""Images that the gate gives to the file at once."""
LIMITS: Mapping[Precision, parity.Limits] = {
    "fp32": parity.EXACT,
    "fp16": parity.LOWERED["fp16"],
    "int8": parity.SAME,
    "int8-weights": parity.EXACT,
    "int4-weights": parity.EXACT,
}
"""The same file on the same machine: a kernel may add up in another order for several images."""

aten = torch.ops.aten

WHY_NOT: Mapping[str, str] = {
    "litert": "its interpreter lays out the memory of one shape, and XNNPACK's kernels with it",
    "executorch": "its memory is planned when it is built, for one shape here",
    "coreml": "an image input of Core ML is one image",
    "openvino": "its session binds memory of one shape; onnx writes the same file, free",
}


def check(wanted: str, backend: str, providers: Sequence[str]) -> Dynamic:
    """What `--dynamic` asks for, where that can be had.

    Raises:
        UnknownName: neither `batch` nor `hw`.
        InputError: not of this backend; says why, and which has it.
    """
    if wanted not in ("", "batch", "hw"):
        raise UnknownName("dynamic shape", wanted, ("batch", "hw"))
    if wanted == "hw":
        raise InputError(
            "--dynamic hw cannot be had: a bundle's image contract states the height and the width "
            "that every camera frame is brought to, and its golden frames prove those; build one "
            "bundle for each size, with height and width in --contract FILE.toml"
        )
    if wanted == "batch" and "TensorrtExecutionProvider" in providers:
        raise InputError(
            "--dynamic batch cannot be had of a target with TensorRT: its engine is built for the "
            "shapes of a profile, here one image; use --target linux --backend onnx"
        )
    if wanted == "batch" and backend not in plugins.batch_backends():
        raise InputError(
            f"--dynamic batch cannot be had of {backend}: "
            f"{WHY_NOT.get(backend, 'its files have fixed shapes')}; "
            "use --target linux --backend onnx"
        )
    return "batch" if wanted else ""


def free_batch(program: ExportedProgram) -> ExportedProgram:
    """The same program for (N, H, W, 3) uint8, N at least 1.

    Raises:
        SpecError: the network does something else for another number of images; names the line.
    """
    module = program.module(check_guards=False)
    for node in module.graph.nodes:
        free_batch_of(node)
    module.recompile()
    (image,) = [n for n in module.graph.nodes if n.op == "placeholder"]
    pixels = torch.zeros((2, *image.meta["val"].shape[1:]), dtype=torch.uint8)
    try:
        return torch.export.export(
            module, (pixels,), dynamic_shapes=({0: Dim("batch", min=1, max=1 << 16)},)
        )
    except Exception as cause:  # torch.export raises many kinds
        found = _first_fixed(module, pixels)
        place = where(found) if found is not None else ""
        raise SpecError(
            f"{place}here the batch is one, or not the first axis, so --dynamic batch cannot "
            "be had: keep it in front (nn.MultiheadAttention moves it), join no constants of "
            "batch 1 to it, or leave --dynamic out"
        ) from cause


def hold_batch(
    run: Runs, session: Session, model: Path, inputs: Sequence[np.ndarray], precision: Precision
) -> Hop:
    """Give the file several images at once: each must be answered as it is alone.

    Args:
        run: the backend's own, from `plugins.batch_runner`.
        session: of the file, for one image.
        model: the file.
        inputs: (1, H, W, 3) uint8 each; `TRIED` of them are taken.
        precision: of the file.

    Raises:
        ParityError: an answer depends on the other images.
        SpecError: the runtime refuses several images.
    """
    few = list(inputs[:TRIED])
    expected = parity.run_session(session, few)
    try:
        found = run(model, np.concatenate(few))
    except BundleError as cause:
        raise SpecError(f"--dynamic batch cannot be had of this network: {cause}") from cause
    limits = LIMITS[precision]
    allowed = parity.tolerance(limits, expected)
    return parity.check_hop(f"one -> batch of {TRIED}", expected, found, allowed, tuple)


def free_batch_of(node: fx.Node) -> None:
    """Let the first axis follow the input, where the node's arguments say 1."""
    if node.target in (aten.reshape.default, aten.view.default):
        shape = [int(size) for size in node.meta["val"].shape]
        node.args = (node.args[0], [-1, *shape[1:]])
    elif node.target is aten.expand.default and isinstance(node.args[0], fx.Node):
        sizes = node.args[1]
        assert isinstance(sizes, (list, tuple))
        if len(sizes) == node.args[0].meta["val"].dim():
            node.args = (node.args[0], [-1, *sizes[1:]])


def _first_fixed(module: fx.GraphModule, pixels: torch.Tensor) -> fx.Node | None:
    """The first node that fails on two images, or gives another number of them."""

    class Watch(fx.Interpreter):
        last: fx.Node | None = None

        def run_node(self, n: fx.Node) -> object:
            self.last = n
            return super().run_node(n)

    watch = Watch(module)
    try:
        with torch.inference_mode():
            watch.run(pixels)
    except Exception:  # which node it is, is all that is asked
        return watch.last
    return None
