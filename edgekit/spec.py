"""The vocabulary: plain values that every stage passes on, and the shape of the seam.

Imports numpy only. Values are frozen; verbs live elsewhere. The protocols at the end are all that a
backend implements: `Compile` on the host, `Session` (made by `Load`) on the device, and, if it can
tell what its accelerator will take, `Place`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

Precision: TypeAlias = Literal["fp32", "fp16", "int8", "int8-weights", "int4-weights"]
WEIGHT_ONLY: tuple[Precision, ...] = ("int8-weights", "int4-weights")
"""Weights are stored as integers; activations and arithmetic are float."""
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8", *WEIGHT_ONLY)

Scheme: TypeAlias = Literal["affine", "symmetric"]
"""Activation quantisation: `affine` has a zero point, `symmetric` has zero point 0 (TensorRT).
Weights are symmetric per-channel int8 in both."""

Options: TypeAlias = Mapping[str, str | int | float | bool]
"""A compiler's options by name; each backend says which it takes, and refuses the others."""

Fill: TypeAlias = Callable[[Mapping[str, np.ndarray]], None]
"""Writes into views of a session's own input memory; must not keep them."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """numpy's name: `uint8`, `float32` ..."""


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """The image contract: the exact way from camera pixels to the model's input.

    The device crops and resizes; everything from there on (uint8 -> float, `/255`, mean, std,
    layout) is inside the graph. The model's input is uint8, (1, height, width, 3), RGB, 0 to 255.

    Order: crop first, on the source's own pixels, then one resize, then colour: where a camera
    gives Y, U and V, each is resized, and they become RGB at the model's size.
    """

    height: int
    width: int
    fit: Literal["crop", "stretch", "letterbox"] = "crop"
    """`crop`: the largest centred box of the model's aspect ratio, times `crop_fraction`.
    `stretch`: the whole image, aspect ratio not kept. `letterbox`: the whole image, margins
    of `fill`."""
    crop_fraction: float = 0.875
    """Side of the centred box over the largest one that fits, in (0, 1]; `crop` only."""
    interpolation: Literal["bilinear", "area"] = "bilinear"
    """`bilinear`: half-pixel centres, no anti-aliasing. `area`: mean over the covered source
    pixels when both sides shrink, else bilinear."""
    fill: int = 114
    """Margin value, 0 to 255; `letterbox` only."""
    color: Literal["RGB"] = "RGB"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Per channel, in units of 1 = pixel value 255; inside the graph."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Per channel, in units of 1 = pixel value 255; inside the graph."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a runtime is set up on the device; travels in the manifest.

    A field that a backend has no use for is left at its default.
    """

    threads: int = 0
    """Intra-op threads; 0 leaves it to the runtime."""
    providers: tuple[str, ...] = ()
    """ONNX Runtime execution providers, most wanted first."""
    fp16: bool = False
    """TensorRT: allow fp16 kernels."""
    int8: bool = False
    """TensorRT: allow int8 kernels (the graph carries its scales)."""
    engine_cache: str = ""
    """Folder for built engines, `~` allowed; empty builds them anew at each load."""
    compute_units: Literal["", "all", "cpu_and_ane", "cpu_and_gpu", "cpu_only"] = ""
    """Core ML: which processors it may use; empty leaves it to the runtime."""


Capture: TypeAlias = Literal["auto", "thread", "process"]
"""Where a live camera is read: in a thread of this process, in a process of its own, or in one of
its own where that costs no copy of a frame."""


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """How the camera loop is set up on the device; travels in the manifest."""

    capture: Capture = "auto"
    """`process` where the runtime holds Python's lock while it infers."""
    cores: tuple[int, ...] = ()
    """CPU cores that infer (Linux), from 0; empty: all. Those that a device lacks are ignored."""
    capture_cores: tuple[int, ...] = ()
    """CPU cores that capture and prepare ahead; empty: all."""
    overlap: bool = False
    """Prepare the next frame in a thread of its own while one is inferred."""


USUAL_LOOP = LoopOptions()


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a compiler must produce: names, the image contract, precision."""

    name: str
    image: ImageSpec
    classes: int
    precision: Precision
    scheme: Scheme
    input: TensorSpec
    output: TensorSpec
    labels: tuple[str, ...] = ()
    """One per class, in the order of the logits, for a format that carries them; two classes may
    have the same."""


@dataclass(frozen=True, slots=True)
class Other:
    """Another backend of a device family, `[other.<backend>]` in its file."""

    scheme: Scheme = "affine"
    session: SessionOptions = SessionOptions()
    options: Options | None = None
    loop: LoopOptions = LoopOptions()


@dataclass(frozen=True, slots=True)
class Target:
    """A device family, read from `targets/<name>.toml`."""

    name: str
    summary: str
    backend: str
    precision: Precision
    scheme: Scheme
    camera: str
    """URI of the default camera."""
    session: SessionOptions = SessionOptions()
    options: Options | None = None
    """Compiler options of this target's backend."""
    loop: LoopOptions = LoopOptions()
    other: Mapping[str, Other] | None = None
    """Further backends that the device can run, by name: what `--backend` may say, too."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a compiler wrote: one model file (or package folder) under its `out` folder."""

    model: Path
    notes: tuple[str, ...] = ()
    """For people: what was folded, delegated, left in float, and why."""


@dataclass(frozen=True, slots=True)
class PlacedOperator:
    """One operator of a model file, and who will run it."""

    name: str
    """As in the file: the operator's own, or its first output's where operators have none."""
    kind: str
    """The format's word for it: `CONV_2D`, `Conv` ..."""
    partition: int
    """Which of the accelerator's partitions runs it, from 0; -1: none, it falls back."""
    reason: str = ""
    """Why it falls back; empty if it does not."""
    border: bool = False
    """It only makes numbers of the camera's bytes, or floats of the logits, where the model begins
    or ends; that it stays outside of the accelerator is by construction, and no fallback."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What the accelerator of a target takes of a model, and what falls back."""

    accelerator: str
    """For people: `XNNPACK`, `TensorRT` ..."""
    basis: str
    """For people: the rules that this was told by, and how far they go."""
    operators: tuple[PlacedOperator, ...]
    """In order of execution."""
    partitions: int
    """Pieces that the accelerator runs in one go each; 1 is best."""
    crossing_bytes: int
    """Of the tensors that go into or out of a partition in one run; the model's own input and
    output do not count."""

    @property
    def fallen(self) -> tuple[PlacedOperator, ...]:
        """The operators that fall back."""
        return tuple(op for op in self.operators if op.partition < 0 and not op.border)


class Compile(Protocol):
    """`targets/<backend>/compiler.py` has one function `compile` of this shape (host, torch)."""

    def __call__(
        self,
        program: Any,  # torch.export.ExportedProgram; the seam itself imports no torch
        spec: ModelSpec,
        options: Options,
        out: Path,
    ) -> Artifact: ...


class Session(Protocol):
    """A model loaded on a device. Not thread-safe: one thread at a time runs it.

    Holds a resource: call `close()` once; it may be called again without effect.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    notes: tuple[str, ...]
    """What the runtime really does: delegate or provider in use, and why it fell back."""

    def run(self, fill: Fill) -> Mapping[str, np.ndarray]:
        """Fill the input memory, run once, return copies of the outputs by name."""
        ...

    def close(self) -> None: ...


class Load(Protocol):
    """`targets/<backend>/session.py` has one function `load` of this shape (device, numpy)."""

    def __call__(self, model: Path, options: SessionOptions) -> Session: ...


class Place(Protocol):
    """`targets/<backend>/placement.py` may have one function `place` of this shape."""

    def __call__(self, model: Path, options: SessionOptions) -> Placement: ...
