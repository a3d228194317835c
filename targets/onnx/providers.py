"""Which ONNX Runtime execution providers to use, and why the others are left out."""

import ctypes
import hashlib
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.errors import SpecError
from edgekit.spec import SessionOptions

CPU = "CPUExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Provider:
    """An execution provider and its settings, as ONNX Runtime takes them."""

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def pair(self) -> tuple[str, dict[str, str]]:
        """The form that `InferenceSession(providers=...)` takes."""
        return self.name, dict(self.settings)


@dataclass(frozen=True, slots=True)
class Gpu:
    """What a built TensorRT engine depends on beside the model; each may be `unknown`."""

    name: str
    tensorrt: str
    driver: str


def choose(
    onnxruntime: Any, options: SessionOptions, content: bytes
) -> tuple[tuple[Provider, ...], tuple[str, ...]]:
    """The wanted providers that this onnxruntime was built with, in order, and notes on the rest.

    Args:
        onnxruntime: the module.
        options: `providers`; none wanted means the CPU.
        content: the model file's bytes; a key of the engine cache.

    Raises:
        SpecError: none of the wanted providers is there.
    """
    wanted = options.providers or (CPU,)
    there = tuple(onnxruntime.get_available_providers())
    chosen = tuple(name for name in wanted if name in there)
    if not chosen:
        raise SpecError(
            f"none of the execution providers {', '.join(wanted)} is in this onnxruntime; "
            f"it has {', '.join(there)}; add {CPU} to the session's providers"
        )
    notes = [
        f"ONNX Runtime: {name} is not in this onnxruntime build ({_where(name)})"
        for name in wanted
        if name not in there
    ]
    if TENSORRT not in chosen:
        return tuple(Provider(name) for name in chosen), tuple(notes)
    settings, remarks = tensorrt_settings(options, content, this_gpu())
    return (
        tuple(Provider(name, settings if name == TENSORRT else {}) for name in chosen),
        (*notes, *remarks),
    )


def tensorrt_settings(
    options: SessionOptions, content: bytes, gpu: Gpu
) -> tuple[dict[str, str], tuple[str, ...]]:
    """TensorRT's provider options, and a note if engines are not cached."""
    settings = {
        "trt_fp16_enable": str(options.fp16),
        "trt_int8_enable": str(options.int8),
    }
    if not options.engine_cache:
        return settings, ()
    folder = engine_cache_folder(options, content, gpu)
    if folder is None:
        unknown = [name for name in ("name", "tensorrt", "driver") if getattr(gpu, name) == UNKNOWN]
        return settings, (
            "TensorRT: the engine is built anew at each start: cannot tell this GPU's "
            f"{', '.join(unknown)}, and an engine of another one must not be loaded",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return settings, (f"TensorRT: no engine cache in {folder}: {error.strerror}",)
    return settings | {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(folder),
    }, ()


def engine_cache_folder(options: SessionOptions, content: bytes, gpu: Gpu) -> Path | None:
    """Where the engines of this model on this GPU are kept; None if the GPU is not fully known.

    An engine is code for one GPU, TensorRT, driver, model and precision: each is in the name, so
    that none is ever loaded for another.
    """
    if UNKNOWN in (gpu.name, gpu.tensorrt, gpu.driver):
        return None
    precision = ("fp16" if options.fp16 else "") + ("int8" if options.int8 else "") or "fp32"
    parts = (gpu.name, "trt" + gpu.tensorrt, "driver" + gpu.driver, precision)
    model = hashlib.sha256(content).hexdigest()[:16]
    name = "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", part) for part in (*parts, model))
    return Path(options.engine_cache).expanduser() / name


def this_gpu() -> Gpu:
    """This machine's GPU, TensorRT and driver; never raises."""
    answer = _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    name, _, driver = (answer.splitlines() or [""])[0].partition(",")
    # Before JetPack 6 a Jetson has no nvidia-smi; its board and L4T release say the same.
    board = _first_line("/proc/device-tree/model") if _first_line("/etc/nv_tegra_release") else ""
    return Gpu(
        board or name.strip() or UNKNOWN,
        _tensorrt_version(),
        _first_line("/etc/nv_tegra_release") or driver.strip() or UNKNOWN,
    )


def refusal(provider: str) -> str:
    """Why a provider that ONNX Runtime was built with did not start: the library it misses."""
    import onnxruntime

    stem = provider.removesuffix("ExecutionProvider").lower()
    library = Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime_providers_{stem}.so"
    if not library.is_file():
        return f"no {library.name} in this onnxruntime ({_where(provider)})"
    missing = re.findall(r"(\S+) => not found", _output("ldd", str(library)))
    if missing:
        return f"missing libraries: {', '.join(sorted(set(missing)))}"
    return "its libraries are there; is there a GPU, and may this user open it?"


def _where(provider: str) -> str:
    if provider in (TENSORRT, "CUDAExecutionProvider"):
        return "install onnxruntime-gpu; on a Jetson, the wheel made for its JetPack"
    return "install a build of onnxruntime that has it"


def _tensorrt_version() -> str:
    for suffix in (".so.11", ".so.10", ".so.8", ".so"):
        try:
            return str(ctypes.CDLL("libnvinfer" + suffix).getInferLibVersion())
        except (OSError, AttributeError):
            continue
    return UNKNOWN


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip("\0\n ").partition("\n")[0]
    except OSError:
        return ""


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
