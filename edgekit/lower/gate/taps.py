"""What every layer of a program gives: in eager mode, in an exported graph, in a lowered file.

A hop of the parity gate compares logits; when one fails, these find the first layer that differs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from edgekit.device.golden import difference, run_input
from edgekit.lower.export import layers
from edgekit.lower.gate.reference import EagerInput
from edgekit.lower.network import folds, reparameterized
from edgekit.spec import Session

Values = Mapping[str, np.ndarray]
"""Layer name -> its values on the images, the images first; in order of execution."""


@dataclass(frozen=True, slots=True)
class LayerSnr:
    """How near one layer is to the same layer before a hop, on all images together."""

    layer: str
    snr_db: float
    """dB; 200 stands for "no difference", -200 for NaN, infinity or another shape."""
    max_abs_error: float
    """In units of the layer's values; `inf` where they are not finite."""

    def __str__(self) -> str:
        return f"{self.layer}: SNR {self.snr_db:.1f} dB, max error {self.max_abs_error:.3g}"


def layer_snr(expected: Values, found: Values) -> list[LayerSnr]:
    """Every layer of `expected` that `found` has, compared, in order of execution."""
    both = [name for name in expected if name in found]
    apart = (difference(_flat(expected[name]), _flat(found[name])) for name in both)
    return [LayerSnr(n, d.snr_db, d.max_abs_error) for n, d in zip(both, apart, strict=True)]


def first_divergence(layers: Sequence[LayerSnr], snr_db: float) -> LayerSnr | None:
    """The first layer whose SNR is under `snr_db`; None if none is."""
    return next((layer for layer in layers if layer.snr_db < snr_db), None)


def unfolded_layers(module: EagerInput, inputs: Sequence[np.ndarray]) -> Values:
    """As `eager_layers`, of a network that is not folded: what the folded one has to give.

    A convolution that batch norm is folded into is taken after it, under its own name.
    """
    norms = {f"network.{conv}": f"network.{norm}" for conv, norm in folds(module.network)}
    return _hooked(module, {norms.get(name, name): name for name in _weighted(module)}, inputs)


def eager_layers(module: nn.Module, inputs: Sequence[np.ndarray]) -> Values:
    """Outputs of each convolution and linear module, before any activation, by its path."""
    return _hooked(module, {name: name for name in _weighted(module)}, inputs)


def _weighted(module: nn.Module) -> list[str]:
    """Paths of the layers, of what makes planes of pixels, and of parts with a deploy form."""
    weighted = [n for n, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return [*dict.fromkeys(["normalise", *weighted, *reparameterized(module)])]


def _hooked(
    module: nn.Module, wanted: Mapping[str, str], inputs: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """Outputs of the modules at the paths that `wanted` has, under the names that it gives."""
    kept: dict[str, list[np.ndarray]] = {}

    def keep(name: str, output: object) -> None:
        if isinstance(output, Tensor):
            kept.setdefault(name, []).append(_array(output))

    parts = [(part, wanted[path]) for path, part in module.named_modules() if path in wanted]
    handles = [
        part.register_forward_hook(lambda _m, _i, output, name=name: keep(name, output))
        for part, name in parts
    ]
    try:
        with torch.inference_mode():
            for tensor in inputs:
                module(torch.from_numpy(tensor))
    finally:
        for handle in handles:
            handle.remove()
    return {name: np.concatenate(values) for name, values in kept.items()}


def weighted_layers(program: ExportedProgram, inputs: Sequence[np.ndarray]) -> Values:
    """The same as `eager_layers`, from an exported float program."""
    graph = program.module(check_guards=False)
    wanted = {
        node: str(node.args[1].target).removesuffix(".weight")
        for node in graph.graph.nodes
        if node.op == "call_function"
        and len(node.args) > 1
        and isinstance(node.args[1], fx.Node)
        and str(node.args[1].target).endswith(".weight")
    }
    return _observe(graph, wanted, inputs)


def graph_layers(program: ExportedProgram, inputs: Sequence[np.ndarray]) -> Values:
    """Outputs of each layer after its activation and requantisation."""
    graph = program.module(check_guards=False)
    return _observe(graph, {x.node: x.name for x in layers(graph.graph)}, inputs)


def tapped(program: ExportedProgram, pixels: Tensor) -> tuple[ExportedProgram, list[str]]:
    """The same program with every layer as a further output, and the layers' names."""
    module = program.module(check_guards=False)
    graph, nodes = fx.Graph(), {}  # type: ignore[var-annotated]
    result = graph.graph_copy(module.graph, nodes)
    found = layers(module.graph)
    logits = result[0] if isinstance(result, (list, tuple)) else result
    graph.output((logits, *(nodes[layer.node] for layer in found)))
    wide = fx.GraphModule(module, graph)
    return torch.export.export(wide, (pixels,)), [layer.name for layer in found]


def lowered_layers(
    program: ExportedProgram,
    pixels: Tensor,
    lower: Callable[[ExportedProgram, Path], Session],
    inputs: Sequence[np.ndarray],
) -> Values:
    """Lower the tapped program with the same compiler, run it, and read every layer.

    Args:
        program: what was lowered.
        pixels: (1, H, W, 3) uint8 example.
        lower: compiles a program into a folder and opens it.
        inputs: (1, H, W, 3) uint8 each.
    """
    wide, names = tapped(program, pixels)
    kept: dict[str, list[np.ndarray]] = {name: [] for name in names}
    with TemporaryDirectory(prefix="edgekit-") as folder:
        session = lower(wide, Path(folder))
        try:
            for tensor in inputs:
                outputs = run_input(session, tensor)
                for n, name in enumerate(names, start=1):
                    kept[name].append(outputs[f"logits_{n}"])
        finally:
            session.close()
    return {name: np.concatenate(values) for name, values in kept.items()}


def _observe(
    graph: fx.GraphModule, wanted: Mapping[fx.Node, str], inputs: Sequence[np.ndarray]
) -> Values:
    kept: dict[str, list[np.ndarray]] = {}

    class Observe(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            value = super().run_node(n)
            if n in wanted and isinstance(value, Tensor):
                kept.setdefault(wanted[n], []).append(_array(value))
            return value

    with torch.inference_mode():
        for tensor in inputs:
            Observe(graph).run(torch.from_numpy(tensor))
    return {name: np.concatenate(values) for name, values in kept.items()}


def _array(value: Tensor) -> np.ndarray:
    return value.detach().numpy().copy()  # an activation in place would change it after us


def _flat(value: np.ndarray) -> np.ndarray:
    return value.reshape(value.shape[0], -1)
