"""ExecuTorch on the device, through its Python binding, which imports torch.

It holds the GIL while it runs: a capture thread stands still meanwhile, so capture wants a process
of its own. Its thread pool belongs to the process. It is resized only while no session is open,
because a model keeps a pointer to the pool that it was loaded with.
"""

import os
import tempfile
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import BundleError, EdgekitError, MissingPackage, SpecError
from edgekit.spec import Fill, SessionOptions, TensorSpec
from targets.executorch.operators import count
from targets.lending import lend_buffers

DTYPES = {0: "uint8", 1: "int8", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 11: "bool"}
"""ScalarType of `executorch/schema/scalar_type.fbs`, as numpy calls it."""

_open: "weakref.WeakSet[ExecuTorchSession]" = weakref.WeakSet()


def load(model: Path, options: SessionOptions) -> "ExecuTorchSession":
    """Load a `.pte` file. It has no names: inputs are `image`, outputs `logits`, `logits_1` ...

    The file is read, not mapped, so that it may be replaced while the session runs. A size that
    was left free when it was exported is taken at its upper bound, all that the file tells of it.

    Args:
        model: the file; read once.
        options: `threads` (0: ExecuTorch's choice).

    Raises:
        MissingPackage: executorch, or torch, is not installed.
        BundleError: the file cannot be read, or ExecuTorch refuses it.
    """
    try:
        import torch  # first: the binding needs libraries that this loads

        # isort: split
        from executorch.extension.pybindings import _C
    except ImportError as error:
        raise MissingPackage("executorch", "executorch", "running an ExecuTorch bundle") from error
    try:
        content = model.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read the model {model}: {error.strerror}") from error
    with _said() as said:
        try:
            kinds = count(memoryview(content))
            short = _threads(_C, options.threads)
            # With any less verification a damaged file crashes the process.
            checks = _C.Verification.InternalConsistency
            program = _C._load_program_from_buffer(content, program_verification=checks)
            method = program.load_method("forward")
        except (RuntimeError, ValueError) as error:
            raise BundleError(f"ExecuTorch refuses the model {model}: {said() or error}") from error
    note = account(version("executorch"), _C._threadpool_get_thread_count(), kinds)
    # The program reads its weights where the bytes lie: they must live as long as it does.
    return ExecuTorchSession(torch.from_numpy, (method, program, content), (note, *short))


class ExecuTorchSession:
    """A loaded method. See `edgekit.spec.Session`."""

    def __init__(
        self,
        tensor: Callable[[np.ndarray], Any],
        held: tuple[Any, Any, bytes],
        notes: tuple[str, ...],
    ) -> None:
        meta = held[0].method_meta()
        self.inputs = tuple(
            _spec("image", n, meta.input_tensor_meta(n)) for n in range(meta.num_inputs())
        )
        self.outputs = tuple(
            _spec("logits", n, meta.output_tensor_meta(n)) for n in range(meta.num_outputs())
        )
        self.notes = notes
        self._held: tuple[Any, Any, bytes] | None = held
        self._buffers = {s.name: np.zeros(s.shape, s.dtype) for s in self.inputs}
        # These share the buffers' memory, and the model reads it where it lies.
        self._tensors = [tensor(buffer) for buffer in self._buffers.values()]
        _open.add(self)

    def run(self, fill: Fill) -> Mapping[str, np.ndarray]:
        """Fill the input memory, run once, return copies of the outputs by name.

        Raises:
            SpecError: `fill` kept one of the views it was lent, or the session is closed.
            EdgekitError: the runtime failed.
        """
        if self._held is None:
            raise SpecError("this session is closed; open the bundle again")
        lend_buffers(self._buffers, fill)
        try:
            found = self._held[0].call(self._tensors, clone_outputs=False)
        except RuntimeError as error:
            raise EdgekitError(f"ExecuTorch failed while running: {error}") from error
        # Copied: the caller owns the result, and the next run does not change it.
        return {s.name: o.numpy().copy() for s, o in zip(self.outputs, found, strict=True)}

    def close(self) -> None:
        """Free the model; closing again does nothing."""
        self._held = None
        self._buffers, self._tensors = {}, []
        _open.discard(self)


def account(release: str, threads: int, kinds: Counter[str]) -> str:
    """Say what XNNPACK runs and what is left to the portable kernels.

    Args:
        release: ExecuTorch's version.
        threads: in its pool.
        kinds: how often each operator runs, as `operators.count` gives it.
    """
    left = {name: n for name, n in kinds.items() if "::" in name}
    total = sum(kinds.values())
    rest = ", ".join(f"{name.partition('::')[2]} {n}" for name, n in sorted(left.items()))
    return (
        f"ExecuTorch {release}: {threads} thread{'s' if threads != 1 else ''}; delegates run "
        f"{total - sum(left.values())} of {total} operators"
        + (f"; left to portable kernels: {rest}" if rest else "")
    )


def _threads(runtime: Any, wanted: int) -> tuple[str, ...]:
    """Size the process's pool; a note if that cannot be done now."""
    there = runtime._threadpool_get_thread_count()
    if wanted in (0, there):
        return ()
    if _open:
        return (f"ExecuTorch: stays at {there} threads, not {wanted}, as another model is open",)
    runtime._unsafe_reset_threadpool(wanted)
    return ()


@contextmanager
def _said() -> Iterator[Callable[[], str]]:
    """Keep what ExecuTorch logs away from stderr; gives its last line, which explains an error."""
    before = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield lambda: _last(os.pread(log.fileno(), 1 << 16, 0).decode(errors="replace"))
        finally:
            os.dup2(before, 2)
            os.close(before)


def _last(log: str) -> str:
    """What follows the place in the source: `[program.cpp:114] File size is too small.`."""
    lines = [line for line in log.splitlines() if line.startswith("[")]
    return lines[-1].partition("] ")[2] if lines else ""


def _spec(name: str, index: int, info: Any) -> TensorSpec:
    full = f"{name}_{index}" if index else name
    if info.dtype() not in DTYPES:
        raise SpecError(f"'{full}' has ScalarType {info.dtype()}; known are {DTYPES}")
    return TensorSpec(full, tuple(info.sizes()), DTYPES[info.dtype()])
