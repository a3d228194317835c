"""What others wrote: read for its tensors, never run."""

import argparse
import os
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgekit.errors import CheckpointError
from edgekit.weights.foreign import read_foreign

STATE = {"conv.weight": torch.arange(8.0).view(2, 1, 2, 2), "conv.bias": torch.tensor([0.5, -1])}


class Log(list[str]):
    __call__ = list.append


@pytest.fixture
def said() -> Log:
    return Log()


def saved(path: Path, value: Any, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


def test_a_plain_state_dict(tmp_path: Path, said: Log) -> None:
    found = read_foreign(saved(tmp_path / "a.pth", OrderedDict(STATE)), said)
    assert list(found) == list(STATE)
    for name, wanted in STATE.items():
        np.testing.assert_array_equal(found[name], wanted.numpy())
        assert found[name].dtype == np.float32
    assert said == []


def test_the_form_before_torch_1_6(tmp_path: Path, said: Log) -> None:
    path = saved(tmp_path / "a.pth", STATE, _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(path)
    assert list(read_foreign(path, said)) == list(STATE)


def test_safetensors_in_half_precision(tmp_path: Path, said: Log) -> None:
    save_file({"a": STATE["conv.bias"].bfloat16()}, tmp_path / "a.safetensors")
    found = read_foreign(tmp_path / "a.safetensors", said)
    np.testing.assert_array_equal(found["a"], [0.5, -1])
    assert found["a"].dtype == np.float32
    assert said == ["converted to float32 from bfloat16"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e5m2])
def test_other_floats_become_float32(tmp_path: Path, said: Log, dtype: torch.dtype) -> None:
    state = {name: value.to(dtype) for name, value in STATE.items()}
    found = read_foreign(saved(tmp_path / "a.pth", state), said)
    np.testing.assert_array_equal(found["conv.weight"], STATE["conv.weight"].numpy())


@pytest.mark.parametrize(
    "key", ["state_dict", "model", "model_state_dict", "model_ema", "state_dict_ema"]
)
def test_wrappers(tmp_path: Path, said: Log, key: str) -> None:
    options = argparse.Namespace(lr=0.1)
    stored = {"epoch": 90, key: STATE, "args": options, "best": torch.tensor(76.0)}
    assert list(read_foreign(saved(tmp_path / "a.pth", stored), said)) == list(STATE)
    assert said == [f"took the weights under '{key}'; left out: 'epoch', 'args', 'best'"]


def test_the_moving_average_is_preferred(tmp_path: Path, said: Log) -> None:
    average = {name: value + 1 for name, value in STATE.items()}
    stored = {"state_dict": STATE, "state_dict_ema": average}
    found = read_foreign(saved(tmp_path / "a.pth", stored), said)
    np.testing.assert_array_equal(found["conv.bias"], [1.5, 0])
    assert said == ["took the weights under 'state_dict_ema'; left out: 'state_dict'"]


def test_prefixes_counters_and_what_is_no_tensor(tmp_path: Path, said: Log) -> None:
    stored = {f"module._orig_mod.{name}": value for name, value in STATE.items()}
    stored["module._orig_mod.bn.num_batches_tracked"] = torch.tensor(7)
    wrapped = {"model_ema": {"n_averaged": torch.tensor(3), "note": "hello", **stored}}
    assert list(read_foreign(saved(tmp_path / "a.pth", wrapped), said)) == list(STATE)
    assert said == [
        "took the weights under 'model_ema'",
        "left out what is no tensor: 'note'",
        "took 'module.' off every name",
        "took '_orig_mod.' off every name",
    ]


class Malicious:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path, said: Log, zipped: bool) -> None:
    stored = {**STATE, "extra": Malicious(tmp_path / "run")}
    path = saved(tmp_path / "a.pth", stored, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"is refused: .*'posix.mkdir'") as caught:
        read_foreign(path, said)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_whole_module_is_refused(tmp_path: Path, said: Log) -> None:
    path = saved(tmp_path / "a.pth", nn.Sequential(nn.Conv2d(1, 1, 1)))
    with pytest.raises(CheckpointError, match=r"is refused: .*'torch.nn.modules.container"):
        read_foreign(path, said)


def test_a_torchscript_archive_is_refused(tmp_path: Path, said: Log) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and found in the wild
        torch.jit.save(torch.jit.script(nn.ReLU()), str(tmp_path / "a.pt"))
    with pytest.raises(CheckpointError, match="TorchScript") as caught:
        read_foreign(tmp_path / "a.pt", said)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"PK\x03\x04" + b"\0" * 99])
def test_damaged_files_are_one_line(tmp_path: Path, said: Log, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name} is ") as caught:
        read_foreign(tmp_path / name, said)
    assert len(str(caught.value).splitlines()) == 1


def test_cut_files_are_refused(tmp_path: Path, said: Log) -> None:
    stored = saved(tmp_path / "a.pth", STATE).read_bytes()
    for length in range(1, len(stored), 97):
        (tmp_path / "cut.pth").write_bytes(stored[:length])
        with pytest.raises(CheckpointError):
            read_foreign(tmp_path / "cut.pth", said)


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        ([1, 2], "holds a list, not a state dict"),
        ({"epoch": 1}, "has no tensors"),
        ({"a": torch.zeros(2, dtype=torch.int8)}, "tensor 'a' is int8"),
        ({"a": torch.eye(2).to_sparse()}, "sparse"),
        ({"a": torch.eye(2, device="meta")}, "more numbers than the file holds"),
        ({"a": torch.zeros(1).expand(10**12)}, "more numbers than the file holds"),
        ({"a": torch.tensor([1.0, float("nan")])}, "tensor 'a' has numbers that are not finite"),
        ({"a": torch.tensor([1e300], dtype=torch.float64)}, "not finite as float32"),
    ],
)
def test_what_is_no_float_weights(tmp_path: Path, said: Log, stored: object, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        read_foreign(saved(tmp_path / "a.pth", stored), said)


def test_a_wrapper_that_holds_itself(tmp_path: Path, said: Log) -> None:
    stored: dict[str, Any] = {}
    stored["state_dict"] = stored
    with pytest.raises(CheckpointError, match="wraps its weights more than"):
        read_foreign(saved(tmp_path / "a.pth", stored), said)


@pytest.mark.parametrize("text", ["hello", "# Heading\n", "<html>", "{}"])
def test_a_text_file_is_no_riddle(tmp_path: Path, said: Log, text: str) -> None:
    (tmp_path / "a.pth").write_text(text)
    with pytest.raises(CheckpointError, match=r"not what torch.save writes; fetch or save it"):
        read_foreign(tmp_path / "a.pth", said)


def test_a_file_that_is_not_there(tmp_path: Path, said: Log) -> None:
    with pytest.raises(CheckpointError, match=r"absent.pth: no file; give"):
        read_foreign(tmp_path / "absent.pth", said)
    with pytest.raises(CheckpointError, match="that is a folder"):
        read_foreign(tmp_path, said)
