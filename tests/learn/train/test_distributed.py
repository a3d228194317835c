"""Several real processes: the same result as one, one word about an error, and how they go on."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from edgekit import checkpoint
from edgekit.errors import InputError
from edgekit.learn.train.distributed import agree, first_makes, joined
from edgekit.learn.train.place import HERE, Seat, choose_device, seat
from tests.learn.train import workers
from tests.learn.train.processes import start, torchrun, work

BASE: dict[str, Any] = {"learning_rate": 0.05, "epochs": 6, "batch": 8, "warmup_epochs": 1}
QUICK: dict[str, dict[str, Any]] = {
    "adamw": {
        **BASE,
        **{"learning_rate": 0.01, "average_decay": 0.9, "clip_norm": 1.0, "accumulate": 2},
    },
}
FITS: dict[str, dict[str, Any]] = {
    **QUICK,
    "sgd": {**BASE, "optimizer": "sgd"},
    "recompute": {**BASE, "recompute": True, "epochs": 2},
    "patience": {**BASE, "patience": 2},
}
EXACT = 1e-10
"""Relative, of each tensor's largest value, in float64: sums are rounded in another order, which
was some 2e-13 after these 18 steps."""
SINGLE = 1e-3
"""The same in float32; it was 3e-5. How far rounding grows, depends on the network."""

RECIPE = """
name = "small"
seed = 1
trained_on = "made-up colours"
license = "Apache-2.0"
[data]
path = "{data}"
[model]
architecture = "mobilenet_v2"
arguments = {{width_mult = 0.1, stem_stride = 1}}
[image]
height = 24
width = 24
crop_fraction = 1.0
interpolation = "area"
[[steps]]
kind = "train"
fit = {{learning_rate = 0.001, epochs = 2, batch = {batch}}}
[[steps]]
kind = "train"
name = "again"
fit = {{learning_rate = 0.001, epochs = 1, batch = 8}}
"""


def _fitted(out: Path, name: str = "", rank: int = 0) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(out / name / f"fitted-{rank}.pt")
    return found


def _close(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        off = float((found[name] - value).abs().max() / value.abs().max().clamp(min=1e-3))
        assert off <= tolerance, f"{name} is {off:.1e} off"


def _same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[n], wanted[n]) for n in wanted)


def _made(folder: Path, tmp_path: Path, name: str) -> tuple[Path, dict[str, Any]]:
    out = tmp_path / name
    out.mkdir()
    return out, {"data": str(folder)}


@pytest.mark.parametrize("fits", [QUICK, pytest.param(FITS, marks=pytest.mark.slow)])
def test_two_processes_come_to_what_one_comes_to(
    fits: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    one, given = _made(folder, tmp_path, "one")
    two, _ = _made(folder, tmp_path, "two")
    given["fits"] = fits
    workers.fitting(HERE, one, given)
    for process in start(work("fitting", two, given)):
        assert process.returncode == 0, process.stderr
        assert not process.stderr
    for name in fits:
        _close(_fitted(two, name), _fitted(one, name), EXACT)
        assert _same(_fitted(two, name, 1), _fitted(two, name))
        rows = [json.loads((out / name / "rows-0.json").read_text()) for out in (one, two)]
        assert [row["top1"] for row in rows[0]] == [row["top1"] for row in rows[1]]
        losses = [[row["loss"] for row in each] for each in rows]
        assert losses[1] == pytest.approx(losses[0], rel=1e-6)  # the loss itself is a float32
        assert rows[1][0]["loss"] > rows[1][-1]["loss"]


@pytest.mark.slow
def test_two_processes_in_float32(folder: Path, tmp_path: Path) -> None:
    one, given = _made(folder, tmp_path, "one")
    two, _ = _made(folder, tmp_path, "two")
    given |= {"fits": {name: FITS[name] for name in ("sgd", "adamw")}, "single": True}
    workers.fitting(HERE, one, given)
    assert [process.returncode for process in start(work("fitting", two, given))] == [0, 0]
    for name in given["fits"]:
        _close(_fitted(two, name), _fitted(one, name), SINGLE)


def test_a_recipe_under_torchrun(folder: Path, tmp_path: Path) -> None:
    recipe, out = tmp_path / "recipe.toml", tmp_path / "out"
    recipe.write_text(RECIPE.format(data=folder, batch=8))
    ended = torchrun(["-m", "edgekit", "train", str(recipe), "--device", "cpu", "-o", str(out)])
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("small.safetensors") == 1
    for said in ("24 images to learn from", "1-train: fit: epoch 2/2", "2-again: fit: epoch 1/1"):
        assert ended.stderr.count(said) == 1
    stored = checkpoint.read(out / "2-again" / "small.safetensors")
    assert stored.card is not None
    assert [made.step for made in stored.card.history] == ["train", "again"]
    assert "features.0.1.running_var" in stored.tensors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch", "data", "said"),
    [
        (9, "", "error: a batch of 9 cannot be dealt out to 2 processes"),
        (8, "nowhere", "nowhere"),
    ],
)
def test_a_users_mistake_is_said_once(
    batch: int, data: str, said: str, folder: Path, tmp_path: Path
) -> None:
    recipe, out = tmp_path / "recipe.toml", tmp_path / "out"
    recipe.write_text(RECIPE.format(data=data or folder, batch=batch))
    command = [*work("", out)[:2], "edgekit", "train", str(recipe), "--device", "cpu"]
    ended = start([*command, "-o", str(out)])
    assert [process.returncode for process in ended] == [2, 2]
    errors = "".join(process.stderr for process in ended)
    assert errors.count("error: ") == 1
    assert said in errors
    assert "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "codes", "said"),
    [
        ("all agree", (0, 0), ""),
        ("one", (2, 1), "InputError: no such file on this machine"),
        ("first", (1, 2), "InputError: the teacher cannot be read"),
        ("lost", (1, -9), "NetworkUnavailable: another process of this run is gone"),
    ],
)
def test_an_error_in_one_process_ends_all(
    case: str, codes: tuple[int, int], said: str, tmp_path: Path
) -> None:
    """The script of the test has no `main` that makes an exit code: an error there ends with 1."""
    ended = start(work("waiting", tmp_path, {"case": case}))
    assert tuple(process.returncode for process in ended) == codes
    errors = "".join(process.stderr for process in ended)
    words = {"all agree": 0, "lost": 2}.get(case, 1)  # a lost one's cause is shown, too
    assert errors.count("Error: ") + errors.count("Unavailable: ") == words
    assert said in errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("disagree", "InputError: the recipe is not the same in process 1 as in process 0, of 2"),
        ("unseen", "is not the same in process 1 as in process 0, of 2; give all machines"),
    ],
)
def test_processes_that_see_different_things(case: str, said: str, tmp_path: Path) -> None:
    ended = start(work("waiting", tmp_path, {"case": case}))
    assert sorted(process.returncode for process in ended) == [1, 2]
    errors = "".join(process.stderr for process in ended)
    assert errors.count("InputError: ") == 1
    assert said in errors


@pytest.mark.slow
@pytest.mark.parametrize("die", [0, 1])
def test_a_killed_process_is_restarted_and_the_run_ends_with_the_same_weights(
    die: int, folder: Path, tmp_path: Path
) -> None:
    how = {**FITS["adamw"], "save_every_s": 0.0}
    whole, given = _made(folder, tmp_path, "whole")
    killed, _ = _made(folder, tmp_path, "killed")
    given["fits"] = {"fit": how}
    assert [process.returncode for process in start(work("fitting", whole, given))] == [0, 0]
    arguments = work("fitting", killed, {**given, "die": die, "step": 8})[1:]
    ended = torchrun(arguments, "--max-restarts", "1")
    assert ended.returncode == 0, ended.stderr
    assert (killed / "fit" / "died").exists()
    assert _same(_fitted(killed, "fit"), _fitted(whole, "fit"))


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(folder: Path, tmp_path: Path) -> None:
    how = {**FITS["adamw"], "save_every_s": 0.0}
    one, given = _made(folder, tmp_path, "one")
    changed, _ = _made(folder, tmp_path, "changed")
    given["fits"] = {"fit": how}
    workers.fitting(HERE, one, given)
    ended = start(work("fitting", changed, {**given, "die": 1, "step": 8}))
    assert [process.returncode for process in ended][1] == -9
    workers.fitting(HERE, changed, given)
    _close(_fitted(changed, "fit"), _fitted(one, "fit"), EXACT)


def test_without_an_environment_it_is_the_only_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with joined("cpu") as place:
        assert place == HERE
        assert place.peers.first(lambda: 3) == 3
        agree(place, "anything", "it")


def test_the_only_process_makes_what_the_first_one_makes(tmp_path: Path) -> None:
    first_makes(HERE, (tmp_path / "made").touch)
    assert (tmp_path / "made").exists()


def test_the_environment_says_who_is_who() -> None:
    there = {"MASTER_ADDR": "here", "MASTER_PORT": "1"}
    assert seat({}) == Seat(0, 1, 0)
    assert seat({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", **there}) == Seat(3, 4, 1)
    with pytest.raises(InputError, match="has RANK, WORLD_SIZE, but not MASTER_ADDR and MASTER_"):
        seat({"RANK": "0", "WORLD_SIZE": "2"})
    with pytest.raises(InputError, match="has RANK, but not WORLD_SIZE and MASTER_ADDR"):
        seat({"RANK": "0"})
    for wrong in ({"RANK": "4"}, {"RANK": "-1"}, {"LOCAL_RANK": "x"}, {"MASTER_PORT": "http"}):
        with pytest.raises(InputError, match="must be whole numbers, RANK below WORLD_SIZE"):
            seat({"RANK": "0", "WORLD_SIZE": "4", **there, **wrong})


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    two = Seat(1, 2, 1)
    assert choose_device("auto", two) == torch.device("cpu")
    with pytest.raises(InputError, match="needs an NVIDIA GPU .* gloo instead of NCCL"):
        choose_device("cuda", two)
    with pytest.raises(InputError, match="no device 'gpu' to train on; there are: auto, cpu, cuda"):
        choose_device("gpu", two)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    assert choose_device("", Seat(0, 2, 0)) == torch.device("cuda", 0)
    with pytest.raises(InputError, match="process 1 of this machine, .* start 'torchrun --nproc-"):
        choose_device("cuda", two)
    with pytest.raises(InputError, match="'cuda:0' is one GPU, and there are 2 processes"):
        choose_device("cuda:0", two)
    with pytest.raises(InputError, match="no device 'cuda:3': the 1 GPUs count from cuda:0"):
        choose_device("cuda:3", Seat(0, 1, 0))
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    with pytest.raises(InputError, match="has no NCCL"):
        choose_device("", Seat(0, 2, 0))
