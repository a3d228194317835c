"""ExportedProgram -> one `.pte` file, by ExecuTorch.

Every file takes uint8 `image` and gives float32 `logits`, by order: a `.pte` has no names. fp16
computes in float16. The input's memory is not the file's own: the caller's is read where it lies.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from edgekit.errors import MissingPackage, SpecError
from edgekit.spec import Artifact, ModelSpec
from edgekit.spec import Options as Given
from targets import weights
from targets.executorch import delegation, front, half, padding
from targets.executorch.operators import count

HOLDS = "ExecuTorch holds Python's lock while it runs: a capture thread wants a process of its own"


@dataclass(frozen=True, slots=True)
class Options:
    """The `[options]` of a target whose backend is `executorch`."""

    partitioner: Literal["xnnpack", "coreml"] = "xnnpack"
    """`coreml`: for Apple's devices; built on macOS, where it can be proven."""


def compile(
    program: torch.export.ExportedProgram, spec: ModelSpec, options: Given, out: Path
) -> Artifact:
    """Write `out/model.pte`.

    Raises:
        SpecError: ExecuTorch refused the program, or an option is unknown.
        MissingPackage: executorch is not installed.
    """
    chosen = _options(options)
    if chosen.partitioner == "coreml" and "CoreMLBackend" not in _runtime().delegates:
        raise SpecError(
            "partitioner = 'coreml' makes a file that runs on Apple's systems alone, so this build "
            "could not be proven here: build on macOS, or take partitioner = 'xnnpack', which runs "
            "on every CPU, or the backend coreml"
        )
    try:
        ready = _prepare(program, spec, chosen)
        with delegation.reasons() as refusals, half.weights_as_given():
            edge = _lower(ready, chosen, spec)
        name = {"xnnpack": "XNNPACK", "coreml": "Core ML"}[chosen.partitioner]
        note = delegation.account(name, edge.exported_program().graph_module, refusals)
        content = _serialise(edge)
    except Exception as cause:  # ExecuTorch raises many kinds
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        raise SpecError(f"ExecuTorch cannot lower this network: {lines[0]}") from cause
    _check_kernels(content)
    path = out / "model.pte"
    path.write_bytes(content)
    return Artifact(path, (note, HOLDS))


def _options(given: Given) -> Options:
    for name, value in given.items():
        if name != "partitioner" or value not in ("xnnpack", "coreml"):
            raise SpecError(
                f"[options] {name} = {value!r} is not an option of the backend executorch; "
                "valid is partitioner = 'xnnpack' or 'coreml'"
            )
    return Options(**given)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class _Runtime:
    """What the runtime of this machine was built with."""

    delegates: tuple[str, ...]
    kernels: frozenset[str]


def _runtime() -> _Runtime:
    try:
        from executorch.extension.pybindings import _C
    except ImportError as error:
        raise MissingPackage("executorch", "host", "building for ExecuTorch") from error
    names = frozenset(_C._get_operator_names())
    return _Runtime(tuple(_C._get_registered_backend_names()), names)


def _check_kernels(content: bytes) -> None:
    """Refuse what no delegate took and no kernel is there for, which would fail when loaded."""
    kernels = _runtime().kernels
    missing = [n for n in count(memoryview(content)) if "::" in n and n not in kernels]
    if missing:
        raise SpecError(
            f"ExecuTorch cannot run this network: it has no kernel for {', '.join(sorted(missing))}"
        )


def _prepare(program: torch.export.ExportedProgram, spec: ModelSpec, chosen: Options) -> Any:
    # A copy: the module shares its parameters with the program, which is not ours to change.
    module = copy.deepcopy(program.module(check_guards=False))
    weights.fold(module)
    padding.fold(module)
    front.cast_first(module)
    front.spell_gates(module)
    front.keep_axes(module)
    front.free_outputs(module)
    if spec.precision == "fp16" and chosen.partitioner == "xnnpack":  # Core ML does so itself
        half.halve(module)
    sample = torch.zeros(spec.input.shape, dtype=torch.uint8)
    return torch.export.export(module, (sample,))


def _lower(program: torch.export.ExportedProgram, chosen: Options, spec: ModelSpec) -> Any:
    try:
        from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
    except ImportError as error:
        raise MissingPackage("executorch", "host", "building for ExecuTorch") from error
    partitioner = _xnnpack() if chosen.partitioner == "xnnpack" else _coreml(spec)
    return to_edge_transform_and_lower(
        program,
        partitioner=[partitioner],
        # Operators outside of core ATen are taken as long as there is a kernel for them.
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
    )


def _xnnpack() -> Any:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    return XnnpackPartitioner()


def _coreml(spec: ModelSpec) -> Any:
    from executorch.backends.apple.coreml.compiler import CoreMLBackend, coreml_preprocess
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner

    coremltools = coreml_preprocess.ct  # not there on every host that XNNPACK is built on
    kinds = coremltools.precision
    specs = CoreMLBackend.generate_compile_specs(
        minimum_deployment_target=coremltools.target.iOS17,
        compute_precision=kinds.FLOAT16 if spec.precision == "fp16" else kinds.FLOAT32,
    )
    # Core ML's tensors are never uint8 (ExecuTorch 1.5 asks, and ends with a KeyError).
    casts = ["dim_order_ops._to_dim_order_copy.default"]
    return CoreMLPartitioner(compile_specs=specs, skip_ops_for_coreml_delegation=casts)


def _serialise(edge: Any) -> bytes:
    from executorch.exir import ExecutorchBackendConfig
    from executorch.exir.passes import MemoryPlanningPass

    planning = MemoryPlanningPass(alloc_graph_input=False)
    made = edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=planning))
    return bytes(made.buffer)
