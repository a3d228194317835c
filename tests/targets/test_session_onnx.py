"""What only ONNX Runtime's session has: execution providers, and TensorRT's engine cache."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgekit.errors import SpecError
from edgekit.plugins import target
from edgekit.spec import SessionOptions
from targets.onnx.providers import (
    CPU,
    TENSORRT,
    UNKNOWN,
    Gpu,
    choose,
    engine_cache_folder,
    refusal,
    tensorrt_settings,
    this_gpu,
)
from targets.onnx.session import load

CUDA = "CUDAExecutionProvider"
ORIN = Gpu("NVIDIA Jetson Orin Nano Developer Kit", "100300", "R36 (release), REVISION: 4.0")


def runtime(*providers: str) -> SimpleNamespace:
    return SimpleNamespace(get_available_providers=lambda: [*providers])


def jetson(tmp_path: Path) -> SessionOptions:
    return replace(target("jetson").session, engine_cache=str(tmp_path), fp16=True)


def test_the_jetson_bundle_falls_back_to_the_cpu_and_says_why(
    onnx_model: Path, tmp_path: Path
) -> None:
    with closing(load(onnx_model, jetson(tmp_path))) as session:
        *reasons, used = session.notes
    assert [reason.split(" is not in")[0] for reason in reasons] == [
        f"ONNX Runtime: {TENSORRT}",
        f"ONNX Runtime: {CUDA}",
    ]
    assert all("install onnxruntime-gpu" in reason for reason in reasons)
    assert used.endswith(f"runs on {CPU}")


def test_the_order_wanted_is_kept() -> None:
    options = SessionOptions(providers=(CUDA, TENSORRT, CPU))
    chosen, notes = choose(runtime(CPU, TENSORRT, CUDA), options, b"")
    assert [provider.name for provider in chosen] == [CUDA, TENSORRT, CPU]
    assert notes == ()


def test_none_wanted_is_the_cpu() -> None:
    chosen, _ = choose(runtime(CUDA, CPU), SessionOptions(), b"")
    assert [provider.pair for provider in chosen] == [(CPU, {})]


def test_none_there_is_refused() -> None:
    with pytest.raises(SpecError, match=f"it has {CPU}"):
        choose(runtime(CPU), SessionOptions(providers=(CUDA,)), b"")


def test_a_provider_that_fails_is_left_out_with_its_reason(
    onnx_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    real = onnxruntime.InferenceSession

    def fussy(content: bytes, settings: object, providers: list[tuple[str, object]], **_: object):  # type: ignore[no-untyped-def]
        if providers[0][0] == CUDA:
            raise RuntimeError("no CUDA-capable device\nis detected")
        return real(content, settings, providers=providers)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", fussy)
    with closing(load(onnx_model, SessionOptions(providers=(CUDA, CPU)))) as session:
        assert session.notes[0] == (
            f"ONNX Runtime: {CUDA} failed and is left out: no CUDA-capable device is detected"
        )


def test_engines_are_kept_apart_by_all_they_depend_on(tmp_path: Path) -> None:
    options = jetson(tmp_path)
    folders = {
        engine_cache_folder(options, b"model", ORIN),
        engine_cache_folder(options, b"other model", ORIN),
        engine_cache_folder(options, b"model", replace(ORIN, name="Orin NX")),
        engine_cache_folder(options, b"model", replace(ORIN, tensorrt="80502")),
        engine_cache_folder(options, b"model", replace(ORIN, driver="R35")),
        engine_cache_folder(replace(options, int8=True), b"model", ORIN),
        engine_cache_folder(replace(options, fp16=False), b"model", ORIN),
    }
    assert len(folders) == 7
    for folder in folders:
        assert folder is not None
        assert folder.parent == tmp_path
    assert engine_cache_folder(options, b"model", ORIN) == tmp_path / (
        "NVIDIA_Jetson_Orin_Nano_Developer_Kit-trt100300-driverR36_release_REVISION_4.0"
        "-fp16-9372c470eeadd5ec"
    )


@pytest.mark.parametrize("part", ["name", "tensorrt", "driver"])
def test_no_cache_where_the_gpu_is_not_known(tmp_path: Path, part: str) -> None:
    gpu = Gpu(**{"name": "a", "tensorrt": "b", "driver": "c", part: UNKNOWN})
    assert engine_cache_folder(jetson(tmp_path), b"", gpu) is None
    settings, notes = tensorrt_settings(jetson(tmp_path), b"", gpu)
    assert "trt_engine_cache_enable" not in settings
    assert part in notes[0]


def test_tensorrt_settings(tmp_path: Path) -> None:
    settings, notes = tensorrt_settings(jetson(tmp_path), b"model", ORIN)
    folder = str(engine_cache_folder(jetson(tmp_path), b"model", ORIN))
    assert settings == {
        "trt_fp16_enable": "True",
        "trt_int8_enable": "False",
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": folder,
    }
    assert notes == ()
    assert Path(folder).is_dir()


def test_a_cache_that_cannot_be_written_is_only_noted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    options = replace(jetson(tmp_path), engine_cache=str(tmp_path / "file"))
    settings, notes = tensorrt_settings(options, b"model", ORIN)
    assert "trt_engine_cache_enable" not in settings
    assert "no engine cache in" in notes[0]


def test_this_machine_is_looked_at_without_failing() -> None:
    gpu = this_gpu()
    assert gpu.name
    assert gpu.tensorrt
    assert gpu.driver
    assert CUDA.removesuffix("ExecutionProvider").lower() in refusal(CUDA)
